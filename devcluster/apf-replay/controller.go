package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
	"unsafe"

	api "k8s.io/api/flowcontrol/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/apiserver/pkg/util/flowcontrol/debug"
	fq "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	"k8s.io/apiserver/pkg/util/flowcontrol/request"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The real functions, which their package does not export. Nothing of them is copied.

//go:linkname digest k8s.io/apiserver/pkg/util/flowcontrol.(*configController).lockAndDigestConfigObjects
func digest(controller unsafe.Pointer, levels []*api.PriorityLevelConfiguration, schemas []*api.FlowSchema) []struct {
	_ [0]byte
}

//go:linkname updateBorrowing k8s.io/apiserver/pkg/util/flowcontrol.(*configController).updateBorrowing
func updateBorrowing(controller unsafe.Pointer)

//go:linkname newDroppedRequestsTracker k8s.io/apiserver/pkg/util/flowcontrol.newDroppedRequestsTracker
func newDroppedRequestsTracker(now func() time.Time) unsafe.Pointer

//go:linkname recordDroppedRequest k8s.io/apiserver/pkg/util/flowcontrol.(*droppedRequestsTracker).RecordDroppedRequest
func recordDroppedRequest(tracker unsafe.Pointer, level string)

//go:linkname getRetryAfter k8s.io/apiserver/pkg/util/flowcontrol.(*droppedRequestsTracker).GetRetryAfter
func getRetryAfter(tracker unsafe.Pointer, level string) int64

type borrowingQuestion struct {
	Seats int `json:"seats"`
	// `exempt` and `catch-all` are among them, as on every server.
	Levels []level         `json:"levels"`
	Steps  []borrowingStep `json:"steps"`
}

type level struct {
	Name            string `json:"name"`
	Shares          int32  `json:"shares"`
	LendablePercent int32  `json:"lendablePercent"`
	BorrowingLimit  *int32 `json:"borrowingLimitPercent"`
	// None: it rejects.
	Queues   int32 `json:"queues"`
	HandSize int32 `json:"handSize"`
}

// At a time, new demands by level, in their order; then, if told so, an adjustment.
type borrowingStep struct {
	At      int64    `json:"at"`
	Demands []uint64 `json:"demands"`
	Adjust  bool     `json:"adjust"`
}

type borrowingAnswer struct {
	// By level: the most seats of a request; 0 where it is not limited so.
	MaxSeats []uint64 `json:"maxSeats"`
	// Before the first step, and after each adjustment.
	Limits [][]int `json:"limits"`
}

// levelSet stands in for a queue set: it has a demand, and is told its limit.
type levelSet struct {
	demand metrics.Gauge
	limit  int
}

type levelSets map[string]*levelSet

func (s levelSets) BeginConstruction(c fq.QueuingConfig, _ metrics.RatioedGaugePair, _ metrics.RatioedGauge, demand metrics.Gauge) (fq.QueueSetCompleter, error) {
	set := &levelSet{demand: demand}
	s[c.Name] = set
	return set, nil
}

func (s *levelSet) Complete(c fq.DispatchingConfig) fq.QueueSet {
	s.limit = c.ConcurrencyLimit
	return s
}

func (s *levelSet) BeginConfigChange(fq.QueuingConfig) (fq.QueueSetCompleter, error) { return s, nil }
func (s *levelSet) IsIdle() bool                                                     { return true }
func (s *levelSet) Dump(bool) debug.QueueSetDump                                     { return debug.QueueSetDump{} }
func (s *levelSet) StartRequest(context.Context, *request.WorkEstimate, uint64, string, string, interface{}, interface{}, fq.QueueNoteFn) (fq.Request, bool) {
	return nil, true
}

func (q *borrowingQuestion) answer() (*borrowingAnswer, error) {
	clock, sets := newStillClock(), levelSets{}
	// Nobody is asked: the informers are never started.
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	controller := flowcontrol.NewTestable(flowcontrol.TestableConfig{
		Name: "controller", Clock: clock, AsFieldManager: "nobody", FoundToDangling: func(found bool) bool { return !found },
		InformerFactory: informers.NewSharedInformerFactory(client, 0), FlowcontrolClient: client.FlowcontrolV1(),
		ServerConcurrencyLimit: q.Seats, ReqsGaugeVec: metrics.PriorityLevelConcurrencyGaugeVec,
		ExecSeatsGaugeVec: metrics.PriorityLevelExecutionSeatsGaugeVec, QueueSetFactory: sets,
	})
	inside := (*[2]unsafe.Pointer)(unsafe.Pointer(&controller))[1]
	var levels []*api.PriorityLevelConfiguration
	for _, level := range q.Levels {
		levels = append(levels, level.object())
	}
	digest(inside, levels, nil)
	answer := &borrowingAnswer{}
	note := func() error {
		var limits []int
		for _, level := range q.Levels {
			set := sets[level.Name]
			if set == nil {
				return fmt.Errorf("level %s has no queues", level.Name)
			}
			limits = append(limits, set.limit)
		}
		answer.Limits = append(answer.Limits, limits)
		return nil
	}
	for _, level := range q.Levels {
		answer.MaxSeats = append(answer.MaxSeats, controller.GetMaxSeats(level.Name))
	}
	if err := note(); err != nil {
		return nil, err
	}
	for _, step := range q.Steps {
		clock.set(step.At)
		for i, demand := range step.Demands {
			sets[q.Levels[i].Name].demand.Set(float64(demand))
		}
		if step.Adjust {
			updateBorrowing(inside)
			if err := note(); err != nil {
				return nil, err
			}
		}
	}
	return answer, nil
}

func (l level) object() *api.PriorityLevelConfiguration {
	object := &api.PriorityLevelConfiguration{ObjectMeta: meta.ObjectMeta{Name: l.Name}}
	if l.Name == api.PriorityLevelConfigurationNameExempt {
		object.Spec = api.PriorityLevelConfigurationSpec{
			Type:   api.PriorityLevelEnablementExempt,
			Exempt: &api.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: &l.Shares, LendablePercent: &l.LendablePercent},
		}
		return object
	}
	limited := &api.LimitedPriorityLevelConfiguration{
		NominalConcurrencyShares: &l.Shares, LendablePercent: &l.LendablePercent, BorrowingLimitPercent: l.BorrowingLimit,
		LimitResponse: api.LimitResponse{Type: api.LimitResponseTypeReject},
	}
	if l.Queues > 0 {
		limited.LimitResponse = api.LimitResponse{Type: api.LimitResponseTypeQueue,
			Queuing: &api.QueuingConfiguration{Queues: l.Queues, HandSize: l.HandSize, QueueLengthLimit: 50}}
	}
	object.Spec = api.PriorityLevelConfigurationSpec{Type: api.PriorityLevelEnablementLimited, Limited: limited}
	return object
}

// Times of refusals, in seconds, rising.
type retryAfterQuestion struct {
	Seconds []int64 `json:"seconds"`
}

// answer gives what each of the refused is told.
func (q *retryAfterQuestion) answer() []int64 {
	var now int64
	tracker := newDroppedRequestsTracker(func() time.Time { return time.Unix(now, 0) })
	told := []int64{}
	for _, now = range q.Seconds {
		recordDroppedRequest(tracker, "level")
		told = append(told, getRetryAfter(tracker, "level"))
	}
	return told
}

type widthQuestion struct {
	Verb string `json:"verb"`
	// The query of a list or watch: `limit=500&resourceVersion=0`.
	Query string `json:"query"`
	// Of the level.
	MaxSeats uint64 `json:"maxSeats"`
	// Objects of the resource, and the mean size of one in bytes.
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Watches that a write tells.
	Watchers int `json:"watchers"`
}

type widthAnswer struct {
	Initial    uint64 `json:"initial"`
	Final      uint64 `json:"final"`
	Additional int64  `json:"additional"`
}

func (q *widthQuestion) answer() (*widthAnswer, error) {
	estimator := request.NewWorkEstimator(
		func(string) (storage.Stats, error) {
			return storage.Stats{ObjectCount: q.Objects, EstimatedAverageObjectSizeBytes: q.Bytes}, nil
		},
		func(*apirequest.RequestInfo) int { return q.Watchers },
		request.DefaultWorkEstimatorConfig(),
		func(string) uint64 { return q.MaxSeats },
	)
	ctx := apirequest.WithRequestInfo(context.Background(), &apirequest.RequestInfo{
		IsResourceRequest: true, Verb: q.Verb, APIGroup: "batch", Resource: "jobs",
	})
	asked := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/apis/batch/v1/jobs", RawQuery: q.Query}}).WithContext(ctx)
	estimate := estimator.EstimateWork(asked, "schema", "level")
	return &widthAnswer{estimate.InitialSeats, estimate.FinalSeats, int64(estimate.AdditionalLatency)}, nil
}
