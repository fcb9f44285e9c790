// What the API server's own flow control does with given input, without a server: the real shuffle sharding, queue sets,
// borrowing, Retry-After and widths of k8s.io/apiserver, with a clock that stands still between steps.
//
// Reads one case a line (JSON) from standard input and writes one answer a line. Bedplate's own implementation is held
// against it: tests/flow_control.rs.
package main

import (
	"bufio"
	"container/heap"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/eventclock"
	"k8s.io/apiserver/pkg/util/shufflesharding"
)

// One of them is given.
type question struct {
	Deal       *dealQuestion       `json:"deal"`
	QueueSet   *queueSetQuestion   `json:"queueSet"`
	Borrowing  *borrowingQuestion  `json:"borrowing"`
	RetryAfter *retryAfterQuestion `json:"retryAfter"`
	Width      *widthQuestion      `json:"width"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "apf-replay:", err)
		os.Exit(1)
	}
}

func run() error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for number := 1; in.Scan(); number++ {
		var question question
		if err := json.Unmarshal(in.Bytes(), &question); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		answer, err := question.answer()
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return out.Flush()
}

func (q question) answer() (any, error) {
	switch {
	case q.Deal != nil:
		return q.Deal.answer()
	case q.QueueSet != nil:
		return q.QueueSet.answer()
	case q.Borrowing != nil:
		return q.Borrowing.answer()
	case q.RetryAfter != nil:
		return q.RetryAfter.answer(), nil
	case q.Width != nil:
		return q.Width.answer()
	}
	return nil, fmt.Errorf("expected one of deal, queueSet, borrowing, retryAfter, width")
}

type dealQuestion struct {
	Hash uint64 `json:"hash"`
	Deck int    `json:"deck"`
	Hand int    `json:"hand"`
}

func (q *dealQuestion) answer() ([]int, error) {
	dealer, err := shufflesharding.NewDealer(q.Deck, q.Hand)
	if err != nil {
		return nil, err
	}
	return dealer.DealIntoHand(q.Hash, nil), nil
}

// A clock that is set by hand. What is due when it is set happens then, in the order of its times.
type stillClock struct {
	lock  sync.Mutex
	now   time.Time
	due   events
	order int
}

var _ eventclock.Interface = &stillClock{}

type event struct {
	at    time.Time
	order int
	f     eventclock.EventFunc
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

var epoch = time.Unix(1_000_000_000, 0)

func newStillClock() *stillClock { return &stillClock{now: epoch} }

func (c *stillClock) Now() time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.now
}

func (c *stillClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func (c *stillClock) Sleep(time.Duration) { panic("nobody sleeps here") }

func (c *stillClock) EventAfterDuration(f eventclock.EventFunc, d time.Duration) {
	c.EventAfterTime(f, c.Now().Add(d))
}

func (c *stillClock) EventAfterTime(f eventclock.EventFunc, t time.Time) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.order++
	heap.Push(&c.due, event{at: t, order: c.order, f: f})
}

// set makes it so many nanoseconds since the beginning.
func (c *stillClock) set(nanoseconds int64) {
	to := epoch.Add(time.Duration(nanoseconds))
	for {
		c.lock.Lock()
		if len(c.due) == 0 || c.due[0].at.After(to) {
			c.now = to
			c.lock.Unlock()
			return
		}
		next := heap.Pop(&c.due).(event)
		c.now = next.at
		c.lock.Unlock()
		next.f(next.at)
	}
}
