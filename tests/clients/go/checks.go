// What users of go-zookeeper/zk rely on: see ../README.md.
package main

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

var checks = []check{
	{"session_ends_with_its_ephemerals", sessionEnds},
	{"session_of_a_dead_program_expires", deadProgram},
	{"session_that_expired_is_told_so", sessionExpires},
	{"session_goes_on_at_another_server", sessionGoesOn},
	{"session_goes_on_when_the_network_went_silent", silentNetwork},
	{"thousands_of_watches_go_on_at_another_server", manyWatches},
	{"writes_go_on_while_the_server_dies", writesGoOn},
	{"nodes", nodes},
	{"nodes_in_sequence", sequence},
	{"nodes_that_go_by_themselves", containersAndTTL},
	{"data_of_every_size", sizes},
	{"many_requests_at_once", manyRequests},
	{"watches_fire_once", watches},
	{"watches_before_answers", watchOrder},
	{"lock_is_held_by_one", lock},
	{"lock_of_a_dead_program_passes_on", deadLock},
	{"lock_is_kept_at_another_server", lockKept},
	{"protected_node_is_made_once", protected},
	{"election_has_one_leader", elections},
	{"election_goes_on_without_a_dead_leader", deadLeader},
	{"barrier_joins_and_parts", barriers},
	{"queue_gives_each_entry_once", queue},
	{"counter_counts", counter},
	{"cache_follows", caches},
	{"multi_is_all_or_nothing", multi},
	{"acls_are_enforced", acls},
	{"authentication_goes_along_to_another_server", authMoves},
	{"wrong_authentication_fails", wrongAuth},
	{"reconfiguration_is_refused", reconfig},
	{"server_is_ok", serverIsOk},
}

var roles = map[string]func(*world){
	"holds_ephemeral": func(w *world) {
		_ = got(w.clientFor(short).Create(w.root, nil, zk.FlagEphemeral, open))
		stays()
	},
	"holds_lock": func(w *world) {
		ok(zk.NewLock(w.clientFor(short).Conn, w.root, open).Lock())
		stays()
	},
	"leads": func(w *world) {
		e := election{c: w.clientFor(short), path: w.root}
		e.join()
		e.lead()
		stays()
	},
}

// sessions

func sessionEnds(w *world) {
	watching, leaving := w.client(), w.client()
	_ = got(leaving.Create(w.root, []byte("here"), zk.FlagEphemeral, open))
	_ = got(watching.Sync(w.root))
	there, stat, gone, err := watching.ExistsW(w.root)
	ok(err)
	require(there && leaving.SessionID() != 0, "no ephemeral, or no session")
	equal(stat.EphemeralOwner, leaving.SessionID())
	leaving.Close()
	fires(gone, zk.EventNodeDeleted, w.root)
	there, _, err = watching.Exists(w.root)
	ok(err)
	require(!there, "the ephemeral is there")
	_, _, err = leaving.Get(w.root)
	refused(err, zk.ErrConnectionClosed)
}

func deadProgram(w *world) {
	c := w.client()
	program := w.program("holds_ephemeral", w.root)
	_ = got(c.Sync(w.root))
	there, _, gone, err := c.ExistsW(w.root)
	ok(err)
	require(there, "no ephemeral")
	kill(program)
	fires(gone, zk.EventNodeDeleted, w.root)
}

func sessionExpires(w *world) {
	watching, c := w.client(), w.clientFor(short)
	before := c.SessionID()
	_ = got(c.Create(w.root, nil, zk.FlagEphemeral, open))
	_, _, own, err := c.ExistsW(w.root)
	ok(err)
	_ = got(watching.Sync(w.root))
	_, _, gone, err := watching.ExistsW(w.root)
	ok(err)
	c.gate.set(true, true)
	c.gate.cut()
	fires(gone, zk.EventNodeDeleted, w.root)
	c.gate.set(false, false)
	c.until(zk.StateExpired)
	refused(next(own).Err, zk.ErrSessionExpired)
	c.until(zk.StateHasSession)
	require(c.SessionID() != before, "the session goes on")
	_ = got(c.Create(w.root, nil, zk.FlagEphemeral, open))
}

func sessionGoesOn(w *world) {
	control("alone")
	c, other := w.client(), w.client()
	server, id := c.Server(), c.SessionID()
	for _, path := range []string{w.root, w.root + "/data", w.root + "/missed"} {
		_ = got(c.Create(path, nil, 0, open))
	}
	_ = got(c.Create(w.root+"/own", nil, zk.FlagEphemeral, open))
	_, _, data, err := c.GetW(w.root + "/data")
	ok(err)
	_, _, missed, err := c.GetW(w.root + "/missed")
	ok(err)
	_, _, made, err := c.ExistsW(w.root + "/new")
	ok(err)
	_, _, children, err := c.ChildrenW(w.root)
	ok(err)
	c.gate.set(true, false)
	control("move")
	other.reconnected()
	_ = got(other.Set(w.root+"/missed", []byte("1"), -1))
	c.gate.set(false, false)
	c.reconnected()
	fires(missed, zk.EventNodeDataChanged, w.root+"/missed")
	require(c.Server() != server, "still at %s", server)
	equal(c.SessionID(), id)
	_, stat, err := other.Get(w.root + "/own")
	ok(err)
	equal(stat.EphemeralOwner, id)
	silent(data)
	silent(made)
	silent(children)
	_ = got(other.Set(w.root+"/data", []byte("1"), -1))
	fires(data, zk.EventNodeDataChanged, w.root+"/data")
	_ = got(other.Create(w.root+"/new", nil, 0, open))
	fires(made, zk.EventNodeCreated, w.root+"/new")
	fires(children, zk.EventNodeChildrenChanged, w.root)
	control("heal")
}

// silentNetwork: the server thinks that the connection is there, when the session connects again.
func silentNetwork(w *world) {
	c, other := w.client(), w.client()
	id := c.SessionID()
	_ = got(c.Create(w.root, nil, zk.FlagEphemeral, open))
	_, _, data, err := c.GetW(w.root)
	ok(err)
	for range make([]int, 3) {
		c.gate.set(false, true)
		c.gate.cut()
		c.reconnected()
		equal(c.SessionID(), id)
	}
	_ = got(other.Sync(w.root))
	_ = got(other.Set(w.root, []byte("1"), 0))
	fires(data, zk.EventNodeDataChanged, w.root)
	_, stat, err := c.Get(w.root)
	ok(err)
	equal(stat.EphemeralOwner, id)
	c.gate.set(false, false)
}

// manyWatches: the client sets them again in several requests of 128 KiB at most.
func manyWatches(w *world) {
	control("alone")
	c, other := w.client(), w.client()
	long := strings.Repeat("long", 30)
	_ = got(c.Create(w.root, nil, 0, open))
	var watches []<-chan zk.Event
	path := func(number int) string { return fmt.Sprintf("%s/%s-%04d", w.root, long, number) }
	for n := 0; n < 3000; n++ {
		_, _, made, err := c.ExistsW(path(n))
		ok(err)
		watches = append(watches, made)
	}
	control("move")
	c.reconnected()
	other.reconnected()
	for n := range watches {
		_ = got(other.Create(path(n), nil, 0, open))
	}
	for n, made := range watches {
		fires(made, zk.EventNodeCreated, path(n))
	}
	control("heal")
}

func writesGoOn(w *world) {
	control("alone")
	c := w.client()
	_ = got(c.Create(w.root, nil, 0, open))
	begun := make(chan int, 200)
	ended := spawn(func() {
		for n := 0; n < 200; n++ {
			for {
				_, err := c.Create(fmt.Sprintf("%s/%03d", w.root, n), nil, 0, open)
				if err == nil || err == zk.ErrNodeExists {
					break
				}
				require(err == zk.ErrConnectionClosed || err == zk.ErrNoServer, "%v", err)
			}
			begun <- n
		}
	})
	for next(begun) < 20 {
	}
	control("move")
	ended()
	children, stat, err := c.Children(w.root)
	ok(err)
	equal(len(children), 200)
	equal(stat.Cversion, 200)
	control("heal")
}

// nodes

func nodes(w *world) {
	c, root := w.client(), w.root
	equal(got(c.Create(root, []byte("one"), 0, open)), root)
	_, err := c.Create(root, nil, 0, open)
	refused(err, zk.ErrNodeExists)
	data, stat, err := c.Get(root)
	ok(err)
	equal(string(data), "one")
	require(stat.Version == 0 && stat.DataLength == 3 && stat.NumChildren == 0 && stat.EphemeralOwner == 0, "%+v", stat)
	require(stat.Czxid == stat.Mzxid && stat.Ctime == stat.Mtime && stat.Pzxid == stat.Czxid, "%+v", stat)
	newer := got(c.Set(root, []byte("three"), 0))
	require(newer.Version == 1 && newer.Czxid == stat.Czxid && newer.Mzxid > stat.Mzxid && newer.DataLength == 5, "%+v", newer)
	_, err = c.Set(root, nil, 0)
	refused(err, zk.ErrBadVersion)
	refused(c.Delete(root, 7), zk.ErrBadVersion)
	_ = got(c.Create(root+"/child", nil, 0, open))
	refused(c.Delete(root, -1), zk.ErrNotEmpty)
	children, stat, err := c.Children(root)
	ok(err)
	equal(list(children), "[child]")
	require(stat.Cversion == 1 && stat.NumChildren == 1 && stat.Version == 1 && stat.Pzxid > stat.Mzxid, "%+v", stat)
	ok(c.Delete(root+"/child", 0))
	ok(c.Delete(root, 1))
	there, _, err := c.Exists(root)
	ok(err)
	require(!there, "still there")
	_, _, err = c.Get(root)
	refused(err, zk.ErrNoNode)
	_, err = c.Set(root, nil, -1)
	refused(err, zk.ErrNoNode)
	refused(c.Delete(root, -1), zk.ErrNoNode)
	_, _, err = c.Children(root)
	refused(err, zk.ErrNoNode)
	_, _, _, err = c.GetW(root)
	refused(err, zk.ErrNoNode)
	_, err = c.Create(root+"/child", nil, 0, open)
	refused(err, zk.ErrNoNode)
	_, err = c.Create(root, nil, 0, []zk.ACL{})
	refused(err, zk.ErrInvalidACL)
}

func sequence(w *world) {
	c, other, root := w.client(), w.client(), w.root
	_ = got(c.Create(root, nil, 0, open))
	for n := 0; n < 3; n++ {
		equal(got(c.Create(root+"/n-", nil, zk.FlagSequence, open)), fmt.Sprintf("%s/n-%010d", root, n))
	}
	ok(c.Delete(root+"/n-0000000002", -1))
	_ = got(c.Create(root+"/plain", nil, 0, open))
	_ = got(other.Sync(root))
	equal(got(other.Create(root+"/m-", nil, zk.FlagSequence|zk.FlagEphemeral, open)), root+"/m-0000000004")
	equal(got(other.Create(root+"/", nil, zk.FlagSequence, open)), root+"/0000000005")
	_, err := c.Create(root+"/m-0000000004/child", nil, 0, open)
	refused(err, zk.ErrNoChildrenForEphemerals)
}

func containersAndTTL(w *world) {
	c, root := w.client(), w.root
	equal(got(c.CreateContainer(root, []byte("held"), zk.FlagContainer, open)), root)
	_ = got(c.Create(root+"/child", nil, 0, open))
	_, _, gone, err := c.ExistsW(root)
	ok(err)
	ok(c.Delete(root+"/child", -1))
	fires(gone, zk.EventNodeDeleted, root)

	_ = got(c.CreateTTL(root, nil, zk.FlagTTL, open, time.Second))
	_, _, gone, err = c.ExistsW(root)
	ok(err)
	fires(gone, zk.EventNodeDeleted, root)
	equal(got(c.CreateTTL(root+"-", nil, zk.FlagPersistentSequentialWithTTL, open, time.Hour))[len(root):][:1], "-")
}

func sizes(w *world) {
	c, root := w.client(), w.root
	// the largest frame that a server takes is 1,048,575 bytes
	for _, size := range []int{0, 1, 4095, 65536, 1_000_000} {
		data := make([]byte, size)
		for n := range data {
			data[n] = byte(n % 251)
		}
		path := fmt.Sprintf("%s-%d", root, size)
		_ = got(c.Create(path, data, 0, open))
		found, _, err := c.Get(path)
		ok(err)
		require(string(found) == string(data), "%d bytes came back changed", size)
	}
	id := c.SessionID()
	// the server closes the connection, at times before the client has written all
	_, err := c.Set(root+"-1", make([]byte, 1_048_576), -1)
	require(err != nil, "a frame beyond the limit was taken")
	c.reconnected()
	data, _, err := c.Get(root + "-1")
	ok(err)
	equal(len(data), 1)
	equal(c.SessionID(), id)
}

func manyRequests(w *world) {
	c, other, root := w.client(), w.client(), w.root
	_ = got(c.Create(root, nil, 0, open))
	var ends []func()
	made := make(chan string, 1000)
	for n := 0; n < 1000; n++ {
		ends = append(ends, spawn(func() { made <- got(c.Create(root+"/n-", nil, zk.FlagSequence, open)) }))
	}
	var found []string
	for _, end := range ends {
		end()
		found = append(found, next(made))
	}
	sort.Strings(found)
	for n, path := range found {
		equal(path, fmt.Sprintf("%s/n-%010d", root, n))
	}
	_ = got(other.Sync(root))
	children, stat, err := other.Children(root)
	ok(err)
	equal(len(children), 1000)
	equal(stat.Cversion, 1000)
}

// watches

func watches(w *world) {
	c, other, root := w.client(), w.client(), w.root
	there, _, made, err := c.ExistsW(root)
	ok(err)
	require(!there, "there before it was made")
	_ = got(other.Create(root, nil, 0, open))
	fires(made, zk.EventNodeCreated, root)
	_, _, data, err := c.GetW(root)
	ok(err)
	_, _, children, err := c.ChildrenW(root)
	ok(err)
	_ = got(other.Set(root, []byte("1"), -1))
	fires(data, zk.EventNodeDataChanged, root)
	_ = got(other.Create(root+"/child", nil, 0, open))
	fires(children, zk.EventNodeChildrenChanged, root)
	_, _, data, err = c.GetW(root)
	ok(err)
	_, _, children, err = c.ChildrenW(root)
	ok(err)
	_, _, exists, err := c.ExistsW(root)
	ok(err)
	ok(other.Delete(root+"/child", -1))
	fires(children, zk.EventNodeChildrenChanged, root)
	_, _, children, err = c.ChildrenW(root)
	ok(err)
	ok(other.Delete(root, -1))
	for _, events := range []<-chan zk.Event{data, children, exists} {
		fires(events, zk.EventNodeDeleted, root)
	}
}

// watchOrder: who has seen the event reads the change, and who reads the change has seen the event.
func watchOrder(w *world) {
	c, other, root := w.client(), w.client(), w.root
	_ = got(c.Create(root, []byte("0"), 0, open))
	_ = got(other.Sync(root))
	for n := 1; n <= 100; n++ {
		_, _, changed, err := c.GetW(root)
		ok(err)
		ended := spawn(func() { _ = got(other.Set(root, []byte(strconv.Itoa(n)), -1)) })
		for {
			data, _, err := c.Get(root)
			ok(err)
			if string(data) == strconv.Itoa(n) {
				break
			}
		}
		select {
		case event := <-changed:
			equal(event.Type, zk.EventNodeDataChanged)
		default:
			fail("the change was read before the event came")
		}
		ended()
	}
}

// recipes

func lock(w *world) {
	var inside, turns int32
	var ends []func()
	for n := 0; n < 4; n++ {
		c := w.client()
		ends = append(ends, spawn(func() {
			for turn := 0; turn < 5; turn++ {
				lock := zk.NewLock(c.Conn, w.root, open)
				ok(lock.LockWithData([]byte("holder")))
				equal(atomic.AddInt32(&inside, 1), 1)
				refused(lock.Lock(), zk.ErrDeadlock)
				atomic.AddInt32(&turns, 1)
				atomic.AddInt32(&inside, -1)
				ok(lock.Unlock())
				refused(lock.Unlock(), zk.ErrNotLocked)
			}
		}))
	}
	for _, end := range ends {
		end()
	}
	equal(turns, 20)
}

func deadLock(w *world) {
	c := w.client()
	program := w.program("holds_lock", w.root)
	lock := zk.NewLock(c.Conn, w.root, open)
	held := spawn(func() { ok(lock.Lock()) })
	kill(program)
	held()
	ok(lock.Unlock())
}

func lockKept(w *world) {
	control("alone")
	c, other := w.client(), w.client()
	first, second := zk.NewLock(c.Conn, w.root, open), zk.NewLock(other.Conn, w.root, open)
	ok(first.Lock())
	_, _, joined, err := c.ChildrenW(w.root)
	ok(err)
	held := spawn(func() { ok(second.Lock()) })
	fires(joined, zk.EventNodeChildrenChanged, w.root)
	// until the second has asked for the children and set its watch: where its connection ends before, Lock fails
	children, _, err := c.Children(w.root)
	ok(err)
	equal(len(children), 2)
	for n := 0; n < 10; n++ {
		_ = got(other.Sync(w.root))
	}
	control("move")
	c.reconnected()
	children, _, err = c.Children(w.root)
	ok(err)
	equal(len(children), 2)
	ok(first.Unlock())
	held()
	ok(second.Unlock())
	control("heal")
}

// protected: the node is found again where the answer to its making was lost.
func protected(w *world) {
	control("alone")
	c := w.client()
	_ = got(c.Create(w.root, nil, 0, open))
	made := make(chan string, 100)
	ended := spawn(func() {
		for n := 0; n < 100; n++ {
			path, err := c.CreateProtectedEphemeralSequential(w.root+"/n-", nil, open)
			if err == zk.ErrNoServer || err == zk.ErrConnectionClosed {
				n--
				continue
			}
			ok(err)
			made <- path
		}
	})
	first := next(made)
	require(strings.Contains(first, "/_c_") && strings.HasSuffix(first, "-n-0000000000"), "%s", first)
	control("move")
	ended()
	children, _, err := c.Children(w.root)
	ok(err)
	there := map[string]bool{}
	for _, child := range children {
		there[w.root+"/"+child] = true
	}
	require(there[first], "%s is gone", first)
	for n := 1; n < 100; n++ {
		path := next(made)
		require(there[path], "%s is gone", path)
	}
	control("heal")
}

func elections(w *world) {
	_ = got(w.client().Create(w.root, nil, 0, open))
	var elections []*election
	leads := make(chan int, 3)
	var ends []func()
	for n := 0; n < 3; n++ {
		n, e := n, &election{c: w.client(), path: w.root}
		_ = got(e.c.Sync(w.root))
		e.join()
		elections = append(elections, e)
		ends = append(ends, spawn(func() {
			e.lead()
			leads <- n
		}))
	}
	for n, e := range elections {
		equal(next(leads), n)
		require(len(leads) == 0, "two lead")
		equal(w.root+"/"+e.candidates()[0], e.node)
		ends[n]()
		e.resign()
	}
}

func deadLeader(w *world) {
	c := w.client()
	_ = got(c.Create(w.root, nil, 0, open))
	program := w.program("leads", w.root)
	heir := &election{c: c, path: w.root}
	heir.join()
	leads := spawn(heir.lead)
	kill(program)
	leads()
	_ = got(c.Sync(w.root))
	equal(len(heir.candidates()), 1)
}

func barriers(w *world) {
	_ = got(w.client().Create(w.root, nil, 0, open))
	entered, left, gone := make(chan int, 3), make(chan int, 3), make(chan int, 3)
	var ends []func()
	join := func(n int) {
		c := w.client()
		_ = got(c.Sync(w.root))
		b := barrier{c: c, path: w.root, name: strconv.Itoa(n), members: 3}
		ends = append(ends, spawn(func() {
			b.enter()
			entered <- n
			<-gone
			b.leave()
			left <- n
		}))
	}
	watching := w.client()
	_ = got(watching.Sync(w.root))
	join(0)
	join(1)
	for {
		children, _, changed, err := watching.ChildrenW(w.root)
		ok(err)
		if len(children) == 2 {
			break
		}
		next(changed)
	}
	require(len(entered) == 0, "went in without the third")
	join(2)
	for n := 0; n < 3; n++ {
		next(entered)
	}
	gone <- 0
	gone <- 0
	require(len(left) == 0, "left without the third")
	gone <- 0
	for _, end := range ends {
		end()
	}
	equal(len(left), 3)
}

func queue(w *world) {
	c := w.client()
	_ = got(c.Create(w.root, nil, 0, open))
	taken := make(chan int, 100)
	var ends []func()
	for n := 0; n < 3; n++ {
		taker := w.client()
		_ = got(taker.Sync(w.root))
		ends = append(ends, spawn(func() {
			last := -1
			for n := 0; n < 10; n++ {
				entry := got(strconv.Atoi(take(taker, w.root)))
				require(entry > last, "%d came after %d", entry, last)
				last = entry
				taken <- entry
			}
		}))
	}
	for n := 0; n < 30; n++ {
		_ = got(c.Create(w.root+"/entry-", []byte(strconv.Itoa(n)), zk.FlagSequence, open))
	}
	for _, end := range ends {
		end()
	}
	found := map[int]bool{}
	for n := 0; n < 30; n++ {
		found[next(taken)] = true
	}
	equal(len(found), 30)
}

func counter(w *world) {
	c := w.client()
	_ = got(c.Create(w.root, []byte("0"), 0, open))
	var ends []func()
	for n := 0; n < 4; n++ {
		each := w.client()
		_ = got(each.Sync(w.root))
		ends = append(ends, spawn(func() {
			for n := 0; n < 25; n++ {
				count(each, w.root, 1)
			}
		}))
	}
	for _, end := range ends {
		end()
	}
	_ = got(c.Sync(w.root))
	data, stat, err := c.Get(w.root)
	ok(err)
	equal(string(data), "100")
	equal(stat.Version, 100)
}

func caches(w *world) {
	control("alone")
	c, other, root := w.client(), w.client(), w.root
	_ = got(other.Create(root, nil, 0, open))
	_ = got(other.Create(root+"/a", []byte("1"), 0, open))
	states := make(chan map[string]string, 1000)
	go cache(c, root, states)
	until := func(wanted map[string]string) {
		for !reflect.DeepEqual(next(states), wanted) {
		}
	}
	until(map[string]string{root + "/a": "1"})
	_ = got(other.Set(root+"/a", []byte("2"), -1))
	until(map[string]string{root + "/a": "2"})
	_ = got(other.Create(root+"/b", []byte("3"), 0, open))
	until(map[string]string{root + "/a": "2", root + "/b": "3"})
	control("move")
	other.reconnected()
	c.reconnected()
	ok(other.Delete(root+"/a", -1))
	_ = got(other.Set(root+"/b", []byte("4"), -1))
	until(map[string]string{root + "/b": "4"})
	control("heal")
}

// transactions

func multi(w *world) {
	c, root := w.client(), w.root
	_ = got(c.Create(root, nil, 0, open))
	results, err := c.Multi(
		&zk.CheckVersionRequest{Path: root, Version: 0},
		&zk.CreateRequest{Path: root + "/n-", Data: []byte("1"), Acl: open, Flags: zk.FlagSequence},
		&zk.CreateRequest{Path: root + "/own", Acl: open, Flags: zk.FlagEphemeral},
		&zk.SetDataRequest{Path: root, Data: []byte("changed"), Version: 0},
		&zk.CreateRequest{Path: root + "/passing", Acl: open},
		&zk.DeleteRequest{Path: root + "/passing", Version: 0},
	)
	ok(err)
	equal(len(results), 6)
	equal(results[1].String, root+"/n-0000000000")
	equal(results[2].String, root+"/own")
	equal(results[3].Stat.Version, 1)
	_, stat, err := c.Children(root)
	ok(err)
	require(stat.Cversion == 4 && stat.NumChildren == 2 && stat.Mzxid == stat.Pzxid, "%+v", stat)

	results, err = c.Multi(
		&zk.CreateRequest{Path: root + "/never", Acl: open},
		&zk.DeleteRequest{Path: root + "/own", Version: 5},
		&zk.SetDataRequest{Path: root, Data: []byte("never"), Version: -1},
	)
	refused(err, zk.ErrBadVersion)
	equal(len(results), 3)
	refused(results[1].Error, zk.ErrBadVersion)
	there, _, err := c.Exists(root + "/never")
	ok(err)
	require(!there, "a part of a failed multi took effect")
	results, err = c.Multi()
	ok(err)
	equal(len(results), 0)
}

// access

func acls(w *world) {
	owner, stranger, root := w.client(), w.client(), w.root
	ok(owner.AddAuth("digest", []byte("owner:secret")))
	_ = got(owner.Create(root, []byte("mine"), 0, zk.AuthACL(zk.PermAll)))
	acl, stat, err := owner.GetACL(root)
	ok(err)
	equal(list(acl), list(zk.DigestACL(zk.PermAll, "owner", "secret")))
	equal(stat.Aversion, 0)
	_ = got(stranger.Sync("/"))
	_, _, err = stranger.Get(root)
	refused(err, zk.ErrNoAuth)
	_, _, err = stranger.Children(root)
	refused(err, zk.ErrNoAuth)
	_, err = stranger.Set(root, nil, -1)
	refused(err, zk.ErrNoAuth)
	_, err = stranger.Create(root+"/child", nil, 0, open)
	refused(err, zk.ErrNoAuth)
	_, err = stranger.SetACL(root, open, -1)
	refused(err, zk.ErrNoAuth)
	_ = got(owner.SetACL(root, append(zk.AuthACL(zk.PermAll), zk.WorldACL(zk.PermRead)...), 0))
	_, err = owner.SetACL(root, open, 0)
	refused(err, zk.ErrBadVersion)
	_ = got(stranger.Sync("/"))
	data, _, err := stranger.Get(root)
	ok(err)
	equal(string(data), "mine")
	_, err = stranger.Set(root, nil, -1)
	refused(err, zk.ErrNoAuth)
	ok(stranger.AddAuth("digest", []byte("owner:secret")))
	_ = got(stranger.Set(root, []byte("yours"), -1))
	_, err = w.client().Create(root+"-nobody", nil, 0, zk.AuthACL(zk.PermAll))
	refused(err, zk.ErrInvalidACL)
}

func authMoves(w *world) {
	control("alone")
	c := w.client()
	ok(c.AddAuth("digest", []byte("owner:secret")))
	_ = got(c.Create(w.root, []byte("mine"), 0, zk.AuthACL(zk.PermAll)))
	_, _, changed, err := c.GetW(w.root)
	ok(err)
	control("move")
	c.reconnected()
	_ = got(c.Set(w.root, []byte("still"), -1))
	fires(changed, zk.EventNodeDataChanged, w.root)
	control("heal")
}

func wrongAuth(w *world) {
	c := w.client()
	refused(c.AddAuth("nonsense", []byte("x:y")), zk.ErrAuthFailed)
	// the server ends the connection; the session goes on
	c.reconnected()
	_ = got(c.Create(w.root, nil, 0, open))
}

func reconfig(w *world) {
	c := w.client()
	_, err := c.IncrementalReconfig([]string{"server.9=127.0.0.1:1:2;3"}, nil, -1)
	refused(err, zk.ErrReconfigDisabled)
	_, _, err = c.Get("/zookeeper/config")
	ok(err)
}

// serverIsOk: what this library reads of the other four-letter words is older than ZooKeeper 3.9.
func serverIsOk(w *world) {
	require(zk.FLWRuok([]string{w.client().Server()}, deadline)[0], "ruok is not answered by imok")
}
