package main

import (
	"sort"
	"strconv"

	"github.com/go-zookeeper/zk"
)

// The usual recipes beside the lock that the library has, as its users write them.

// election: whoever has the lowest number leads; the others watch the one before them.
type election struct {
	c          *client
	path, node string
}

func (e *election) join() {
	e.node = got(e.c.CreateProtectedEphemeralSequential(e.path+"/candidate-", nil, open))
}

func number(node string) string { return node[len(node)-10:] }

func (e *election) candidates() []string {
	children, _, err := e.c.Children(e.path)
	ok(err)
	sort.Slice(children, func(a, b int) bool { return number(children[a]) < number(children[b]) })
	return children
}

// lead returns when this candidate leads.
func (e *election) lead() {
	for {
		before := ""
		for _, candidate := range e.candidates() {
			if number(candidate) < number(e.node) {
				before = candidate
			}
		}
		if before == "" {
			return
		}
		there, _, gone, err := e.c.ExistsW(e.path + "/" + before)
		ok(err)
		if there {
			next(gone)
		}
	}
}

func (e *election) resign() { ok(e.c.Delete(e.node, -1)) }

// barrier is a double barrier: in when all are there, out when all have gone.
type barrier struct {
	c          *client
	path, name string
	members    int
}

func (b *barrier) enter() {
	_, _, ready, err := b.c.ExistsW(b.path + "/ready")
	ok(err)
	_ = got(b.c.Create(b.path+"/"+b.name, nil, zk.FlagEphemeral, open))
	children, _, err := b.c.Children(b.path)
	ok(err)
	if len(children) < b.members {
		next(ready)
	} else if _, err := b.c.Create(b.path+"/ready", nil, 0, open); err != zk.ErrNodeExists {
		ok(err)
	}
}

func (b *barrier) leave() {
	if err := b.c.Delete(b.path+"/ready", -1); err != zk.ErrNoNode {
		ok(err)
	}
	ok(b.c.Delete(b.path+"/"+b.name, -1))
	for {
		children, _, changed, err := b.c.ChildrenW(b.path)
		ok(err)
		if len(children) == 0 {
			return
		}
		next(changed)
	}
}

// take gives the oldest entry of a queue to one of those who ask, and waits while there is none.
func take(c *client, path string) string {
	for {
		children, _, changed, err := c.ChildrenW(path)
		ok(err)
		sort.Strings(children)
		for _, entry := range children {
			data, _, err := c.Get(path + "/" + entry)
			if err == zk.ErrNoNode {
				continue
			}
			ok(err)
			if err := c.Delete(path+"/"+entry, -1); err == zk.ErrNoNode {
				continue
			} else {
				ok(err)
			}
			return string(data)
		}
		next(changed)
	}
}

// count adds to a number in a node.
func count(c *client, path string, by int) {
	for {
		data, stat, err := c.Get(path)
		ok(err)
		_, err = c.Set(path, []byte(strconv.Itoa(got(strconv.Atoi(string(data)))+by)), stat.Version)
		if err != zk.ErrBadVersion {
			ok(err)
			return
		}
	}
}

// cache follows the children of a node and their data, and tells each state that it has seen.
func cache(c *client, path string, states chan<- map[string]string) {
	changed := make(chan zk.Event, 1000)
	forward := func(events <-chan zk.Event) {
		go func() {
			if event, more := <-events; more && event.Err == nil {
				changed <- event
			}
		}()
	}
	known := map[string]string{}
	list := func() {
		children, _, events, err := c.ChildrenW(path)
		ok(err)
		forward(events)
		there := map[string]bool{}
		for _, child := range children {
			there[path+"/"+child] = true
			if _, seen := known[path+"/"+child]; !seen {
				changed <- zk.Event{Type: zk.EventNodeDataChanged, Path: path + "/" + child}
			}
		}
		for child := range known {
			if !there[child] {
				delete(known, child)
			}
		}
	}
	list()
	for event := range changed {
		switch event.Type {
		case zk.EventNodeChildrenChanged:
			list()
		case zk.EventNodeDataChanged:
			data, _, events, err := c.GetW(event.Path)
			if err == zk.ErrClosing || err == zk.ErrConnectionClosed {
				return
			} else if err == nil {
				known[event.Path] = string(data)
				forward(events)
			}
		}
		state := map[string]string{}
		for child, data := range known {
			state[child] = data
		}
		states <- state
	}
}
