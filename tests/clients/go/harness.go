package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	deadline = 30 * time.Second // for what must come; only a deadline
	hangs    = 90 * time.Second // after which a check has hung
	session  = 10 * time.Second // sessions that must not expire on a busy machine
	short    = time.Second      // sessions that are to expire
)

var open = zk.WorldACL(zk.PermAll)

// failure is what a check panics with.
type failure string

func fail(format string, values ...interface{}) {
	panic(failure(fmt.Sprintf(format, values...)))
}

func require(condition bool, format string, values ...interface{}) {
	if !condition {
		fail(format, values...)
	}
}

func equal[T comparable](found, wanted T) {
	require(found == wanted, "%v is not %v", found, wanted)
}

// list is a slice as equal compares it.
func list[T any](values []T) string { return fmt.Sprintf("%v", values) }

func ok(err error) {
	if err != nil {
		fail("%v", err)
	}
}

// got is the value of a call that must succeed.
func got[T any](value T, err error) T {
	ok(err)
	return value
}

// refused holds a call against the error that it must give.
func refused(err, wanted error) {
	require(err == wanted, "the error is %v, not %v", err, wanted)
}

// next is what a channel gives within the deadline.
func next[T any](events <-chan T) T {
	select {
	case event, more := <-events:
		require(more, "the channel was closed")
		return event
	case <-time.After(deadline):
		fail("no event within %v", deadline)
		panic("not reached")
	}
}

// fires awaits a watch's event.
func fires(events <-chan zk.Event, kind zk.EventType, path string) {
	event := next(events)
	require(event.Type == kind && event.Path == path && event.Err == nil, "the event is %+v, not %v %s", event, kind, path)
}

func silent(events <-chan zk.Event) {
	select {
	case event := <-events:
		fail("a watch fired: %+v", event)
	default:
	}
}

// spawn runs a part of a check on its own; the function that it gives waits for its end.
func spawn(work func()) func() {
	ended := make(chan interface{}, 1)
	go func() {
		defer func() { ended <- recover() }()
		work()
	}()
	return func() {
		if failed := next(ended); failed != nil {
			panic(failed)
		}
	}
}

// client is a connection with what its users have to keep beside it.
type client struct {
	*zk.Conn
	states chan zk.State
	gate   *gate
}

// until waits for a state of the session.
func (c *client) until(wanted zk.State) {
	for next(c.states) != wanted {
	}
}

// reconnected waits until a client that lost its server is on another one.
func (c *client) reconnected() {
	c.until(zk.StateDisconnected)
	c.until(zk.StateHasSession)
}

// gate is a client's network.
type gate struct {
	sync.Mutex
	shut   bool // nobody is reached
	silent bool // what the client closes stays open for the server: so does a network that went away
	conns  []*gated
}

type gated struct {
	net.Conn
	gate *gate
	cut  bool
}

func (g *gate) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	g.Lock()
	defer g.Unlock()
	if g.shut {
		return nil, io.ErrUnexpectedEOF
	}
	conn, err := net.DialTimeout(network, address, timeout)
	if err != nil {
		return nil, err
	}
	g.conns = append(g.conns, &gated{Conn: conn, gate: g})
	return g.conns[len(g.conns)-1], nil
}

func (g *gate) set(shut, silent bool) {
	g.Lock()
	defer g.Unlock()
	g.shut, g.silent = shut, silent
}

// cut ends every connection for the client; the server learns of it unless the gate is silent.
func (g *gate) cut() {
	g.Lock()
	conns := g.conns
	g.conns = nil
	g.Unlock()
	for _, conn := range conns {
		ok(conn.Close())
	}
}

func (c *gated) Close() error {
	c.gate.Lock()
	defer c.gate.Unlock()
	if c.gate.silent {
		c.cut = true
		return c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	return c.Conn.Close()
}

// SetReadDeadline leaves a connection cut that is.
func (c *gated) SetReadDeadline(deadline time.Time) error {
	c.gate.Lock()
	defer c.gate.Unlock()
	if c.cut {
		return nil
	}
	return c.Conn.SetReadDeadline(deadline)
}

// world is what one check is given: a path of its own, and clients that are closed after it.
type world struct {
	servers []string
	root    string
	open    []*client
}

func (w *world) client() *client { return w.clientFor(session) }

func (w *world) clientFor(timeout time.Duration) *client {
	c := &client{states: make(chan zk.State, 1000), gate: &gate{}}
	told := func(event zk.Event) {
		if event.Type == zk.EventSession {
			c.states <- event.State
		}
	}
	conn, _, err := zk.Connect(w.servers, timeout,
		zk.WithEventCallback(told), zk.WithDialer(c.gate.dial), zk.WithLogger(logger{}))
	ok(err)
	c.Conn = conn
	w.open = append(w.open, c)
	c.until(zk.StateHasSession)
	return c
}

func (w *world) close() {
	for _, c := range w.open {
		c.Close()
	}
}

type logger struct{}

func (logger) Printf(format string, values ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
}

// program is this program again, as a process of its own that a check may kill; it is ready when this returns.
func (w *world) program(role, path string) *exec.Cmd {
	command := exec.Command(os.Args[0], strings.Join(w.servers, ","), "--as", role, path)
	command.Stderr = os.Stderr
	_ = got(command.StdinPipe())
	output := bufio.NewReader(got(command.StdoutPipe()))
	ok(command.Start())
	equal(got(output.ReadString('\n')), "ready\n")
	return command
}

func kill(program *exec.Cmd) {
	ok(program.Process.Kill())
	_ = program.Wait()
}

// stays ends a program of its own: it lives until it is killed.
func stays() {
	fmt.Println("ready")
	_, _ = io.ReadAll(os.Stdin)
}

var runner = bufio.NewReader(os.Stdin)

// control has the runner do something to the servers; it is done when this returns.
func control(word string) {
	fmt.Printf("control %s\n", word)
	equal(got(runner.ReadString('\n')), "done\n")
}

type check struct {
	name string
	run  func(*world)
}

func (c check) passes(servers []string) bool {
	w := &world{servers: servers, root: "/" + c.name}
	ended := make(chan interface{}, 1)
	go func() {
		defer func() {
			failed := recover()
			if failed != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n%s", c.name, failed, debug.Stack())
			}
			ended <- failed
		}()
		c.run(w)
		w.close()
	}()
	var failed interface{}
	select {
	case failed = <-ended:
	case <-time.After(hangs):
		failed = fmt.Sprintf("did not end within %v", hangs)
	}
	if failed == nil {
		fmt.Println("ok " + c.name)
		return true
	}
	fmt.Printf("FAILED %s: %s\n", c.name, strings.Join(strings.Fields(fmt.Sprint(failed)), " "))
	control("heal")
	return false
}

func main() {
	servers, rest := strings.Split(os.Args[1], ","), os.Args[2:]
	if len(rest) == 3 && rest[0] == "--as" {
		roles[rest[1]](&world{servers: servers, root: rest[2]})
		return
	}
	code := 0
	for _, check := range checks {
		if (len(rest) == 0 || strings.Contains(check.name, rest[0])) && !check.passes(servers) {
			code = 1
		}
	}
	os.Exit(code)
}
