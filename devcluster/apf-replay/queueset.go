package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/util/flowcontrol/debug"
	fq "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	"k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	"k8s.io/apiserver/pkg/util/flowcontrol/request"
)

type queueSetQuestion struct {
	// None: nobody waits.
	Queues           int    `json:"queues"`
	HandSize         int    `json:"handSize"`
	QueueLengthLimit int    `json:"queueLengthLimit"`
	Limit            int    `json:"limit"`
	Steps            []step `json:"steps"`
}

// At a time (nanoseconds), one of the others.
type step struct {
	At     int64    `json:"at"`
	Arrive *arrival `json:"arrive"`
	Finish *int     `json:"finish"`
	// The client has waited too long.
	GiveUp *int `json:"giveUp"`
	Limit  *int `json:"limit"`
}

type arrival struct {
	Ticket     int    `json:"ticket"`
	Hash       uint64 `json:"hash"`
	Initial    uint64 `json:"initial"`
	Final      uint64 `json:"final"`
	Additional int64  `json:"additional"`
}

// The whole state after a step.
type state struct {
	Refused    bool         `json:"refused"`
	Executing  []int        `json:"executing"`
	SeatsInUse int          `json:"seatsInUse"`
	Demand     float64      `json:"demand"`
	Queues     []queueState `json:"queues"`
}

type queueState struct {
	Waiting       []int  `json:"waiting"`
	NextDispatchR uint64 `json:"nextDispatchR"`
	Work          uint64 `json:"work"`
	SeatsInUse    int    `json:"seatsInUse"`
}

// gauge remembers the last value.
type gauge struct{ value float64 }

func (g *gauge) Set(v float64)          { g.value = v }
func (g *gauge) Inc()                   { g.value++ }
func (g *gauge) Dec()                   { g.value-- }
func (g *gauge) Add(v float64)          { g.value += v }
func (g *gauge) SetToCurrentTime()      {}
func (g *gauge) SetDenominator(float64) {}

type running struct {
	cancel          context.CancelFunc
	started, finish chan struct{}
	done            chan struct{}
	isStarted       bool
}

func (q *queueSetQuestion) answer() ([]state, error) {
	clock := newStillClock()
	configuration := fq.QueuingConfig{Name: "level", DesiredNumQueues: q.Queues, QueueLengthLimit: q.QueueLengthLimit, HandSize: q.HandSize}
	dispatching := func(limit int) fq.DispatchingConfig {
		return fq.DispatchingConfig{ConcurrencyLimit: limit, ConcurrencyDenominator: max(1, limit)}
	}
	demand := &gauge{}
	completer, err := queueset.NewQueueSetFactory(clock).BeginConstruction(configuration,
		metrics.RatioedGaugePair{RequestsWaiting: &gauge{}, RequestsExecuting: &gauge{}}, &gauge{}, demand)
	if err != nil {
		return nil, err
	}
	set := completer.Complete(dispatching(q.Limit))
	requests := map[int]*running{}
	// now gives the state, once all that should run by it do.
	now := func() (state, error) {
		state, err := stateOf(set.Dump(false))
		for _, ticket := range state.Executing {
			if r := requests[ticket]; !r.isStarted {
				<-r.started
				r.isStarted = true
			}
		}
		return state, err
	}
	var states []state
	for _, step := range q.Steps {
		clock.set(step.At)
		// Seats that became free meanwhile have let others in.
		if _, err := now(); err != nil {
			return nil, err
		}
		refused := false
		switch {
		case step.Arrive != nil:
			a := step.Arrive
			ctx, cancel := context.WithCancel(context.Background())
			estimate := &request.WorkEstimate{InitialSeats: a.Initial, FinalSeats: a.Final, AdditionalLatency: time.Duration(a.Additional)}
			req, _ := set.StartRequest(ctx, estimate, a.Hash, strconv.Itoa(a.Ticket), "schema", "", "", nil)
			if req == nil {
				refused = true
				cancel()
				break
			}
			r := &running{cancel: cancel, started: make(chan struct{}), finish: make(chan struct{}), done: make(chan struct{})}
			requests[a.Ticket] = r
			go func() {
				defer close(r.done)
				req.Finish(func() {
					close(r.started)
					<-r.finish
				})
			}()
		case step.Finish != nil:
			r := requests[*step.Finish]
			if r == nil || !r.isStarted {
				return states, nil // Whoever asks believes something else: the states tell where that began.
			}
			close(r.finish)
			<-r.done
			delete(requests, *step.Finish)
		case step.GiveUp != nil:
			r := requests[*step.GiveUp]
			if r == nil || r.isStarted {
				return states, nil
			}
			r.cancel()
			<-r.done
			delete(requests, *step.GiveUp)
		case step.Limit != nil:
			change, err := set.BeginConfigChange(configuration)
			if err != nil {
				return nil, err
			}
			change.Complete(dispatching(*step.Limit))
		}
		state, err := now()
		if err != nil {
			return nil, err
		}
		state.Refused, state.Demand = refused, demand.value
		states = append(states, state)
	}
	for _, r := range requests {
		r.cancel()
		if r.isStarted {
			close(r.finish)
		}
	}
	return states, nil
}

func stateOf(dump debug.QueueSetDump) (state, error) {
	state := state{SeatsInUse: dump.SeatsInUse, Executing: []int{}, Queues: []queueState{}}
	var err error
	ticket := func(r debug.RequestDump) int {
		n, wrong := strconv.Atoi(r.FlowDistinguisher)
		if wrong != nil {
			err = wrong
		}
		return n
	}
	for _, r := range dump.QueuelessExecutingRequests {
		state.Executing = append(state.Executing, ticket(r))
	}
	for _, queue := range dump.Queues {
		of := queueState{SeatsInUse: queue.SeatsInUse, Waiting: []int{}}
		for _, r := range queue.Requests {
			of.Waiting = append(of.Waiting, ticket(r))
		}
		for _, r := range queue.RequestsExecuting {
			state.Executing = append(state.Executing, ticket(r))
		}
		if of.NextDispatchR, err = seatSeconds(queue.NextDispatchR); err != nil {
			return state, err
		}
		if of.Work, err = seatSeconds(queue.QueueSum.TotalWorkSum); err != nil {
			return state, err
		}
		state.Queues = append(state.Queues, of)
	}
	slices.Sort(state.Executing)
	return state, err
}

// seatSeconds reads what SeatSeconds.String has written, in units of 1e-8.
func seatSeconds(text string) (uint64, error) {
	whole, fraction, found := strings.Cut(strings.TrimSuffix(text, "ss"), ".")
	if !found || len(fraction) != 8 {
		return 0, fmt.Errorf("not seat-seconds: %q", text)
	}
	return strconv.ParseUint(whole+fraction, 10, 64)
}
