// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"sync"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// contents are what an object holds.
type contents struct {
	programs []protocol.Program
	set      []string // the names of --set that are variables of the object
	mapSizes []string // the names of --map-size that are maps of the object
}

// A queue holds what is still to be done, and gives it to supervisors.
type queue struct {
	lock     sync.Mutex
	changed  *sync.Cond
	settings *settings
	unopened []string // objects
	opening  int      // how many objects supervisors are opening now
	pending  []*workItem
	// What failed for want of memory. It is tried again when no other loader holds maps.
	retry         []*workItem
	retryUnopened []string
	retrying      bool // whether this is the second pass, which has one supervisor
	stopped       bool
	// The names in the command line that some object has, by option. If an object could not be
	// read, `incomplete` says that these may not be all.
	set, mapSize, programs map[string]bool
	incomplete             bool
	printedMaps            map[string]bool
}

// A workItem is loaded by one loader, in order: a program, or the variants of one.
type workItem struct {
	object   string
	programs []protocol.Program
	variants bool
}

// minItemsToShare is how many items of an object must be pending for another loader to open it too.
const minItemsToShare = 4

func newQueue(s *settings) *queue {
	q := &queue{
		settings: s, unopened: slices.Clone(s.Objects),
		set: map[string]bool{}, mapSize: map[string]bool{}, programs: map[string]bool{},
		printedMaps: map[string]bool{},
	}
	q.changed = sync.NewCond(&q.lock)
	return q
}

// next returns what a supervisor is to do whose loader has the object `current` open: load an item,
// or open an object, and then whether nobody has opened that object before. It returns neither if
// nothing is left.
func (q *queue) next(current string) (item *workItem, object string, first bool) {
	q.lock.Lock()
	defer q.lock.Unlock()
	for !q.stopped {
		if item := q.takeItemOf(current); item != nil {
			return item, "", false
		}
		if len(q.unopened) > 0 {
			object := q.unopened[0]
			q.unopened = q.unopened[1:]
			q.opening++
			return nil, object, true
		}
		if object := q.busiestObject(); object != "" {
			return nil, object, false
		}
		if q.opening == 0 {
			break
		}
		q.changed.Wait()
	}
	return nil, "", false
}

// retryLater puts an item aside for the second pass. It returns false if no other loader has taken
// up memory, so that a second try would be of no use.
func (q *queue) retryLater(item *workItem) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.retrying || q.settings.Jobs == 1 {
		return false
	}
	q.retry = append(q.retry, item)
	return true
}

// openLater puts an object aside for the second pass. It returns false as retryLater does.
func (q *queue) openLater(object string) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.retrying || q.settings.Jobs == 1 {
		return false
	}
	q.retryUnopened = append(q.retryUnopened, object)
	return true
}

// startRetry begins the second pass, for one supervisor. It returns false if nothing was put aside.
func (q *queue) startRetry() bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.pending, q.retry, q.retrying = q.retry, nil, true
	q.unopened, q.retryUnopened = q.retryUnopened, nil
	return len(q.pending) > 0 || len(q.unopened) > 0
}

// isRetrying tells whether this is the second pass.
func (q *queue) isRetrying() bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	return q.retrying
}

func (q *queue) takeItemOf(object string) *workItem {
	i := slices.IndexFunc(q.pending, func(item *workItem) bool { return item.object == object })
	if i < 0 {
		return nil
	}
	item := q.pending[i]
	q.pending = slices.Delete(q.pending, i, i+1)
	return item
}

// busiestObject returns the object with the most pending items, if they are enough to be shared.
func (q *queue) busiestObject() string {
	counts := map[string]int{}
	busiest := ""
	for _, item := range q.pending {
		counts[item.object]++
		count := counts[item.object]
		if (count >= minItemsToShare || q.retrying) && count > counts[busiest] {
			busiest = item.object
		}
	}
	return busiest
}

// addContents adds the programs of an object that was opened; nil says that it could not be read.
func (q *queue) addContents(object string, c *contents) {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.opening--
	defer q.changed.Broadcast()
	if c == nil {
		q.incomplete = q.incomplete || !slices.Contains(q.retryUnopened, object)
		return
	}
	for _, name := range c.set {
		q.set[name] = true
	}
	for _, name := range c.mapSizes {
		q.mapSize[name] = true
	}
	for _, program := range c.programs {
		q.programs[program.Name] = true
	}
	q.pending = append(q.pending, workItems(object, c.programs, q.settings)...)
}

// workItems returns what is to be loaded of an object, in the order of its programs.
func workItems(object string, programs []protocol.Program, s *settings) []*workItem {
	var items []*workItem
	taken := map[string]bool{}
	for _, program := range programs {
		if taken[program.Name] || len(s.Only) > 0 && !slices.Contains(s.Only, program.Name) {
			continue
		}
		item := &workItem{object: object, programs: []protocol.Program{program}}
		if group := variantsOf(program.Name, s); group != nil {
			item.programs, item.variants = nil, true
			for _, name := range group {
				i := slices.IndexFunc(programs, func(p protocol.Program) bool { return p.Name == name })
				if i >= 0 && !taken[name] {
					item.programs = append(item.programs, programs[i])
				}
			}
		}
		for _, p := range item.programs {
			taken[p.Name] = true
		}
		items = append(items, item)
	}
	return items
}

// variantsOf returns the first group of variants that a program is in, or nil.
func variantsOf(program string, s *settings) []string {
	for _, group := range s.Variants {
		if slices.Contains(group, program) {
			return group
		}
	}
	return nil
}

// isNewMap tells whether a map has not been printed yet: each loader makes its own.
func (q *queue) isNewMap(object, name string) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	key := object + "\x00" + name
	printed := q.printedMaps[key]
	q.printedMaps[key] = true
	return !printed
}

func (q *queue) stop() {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.stopped = true
	q.changed.Broadcast()
}

// checkUnused returns a usage error for a name in the command line that no object has. If an object
// could not be read, it may be the one with that name, so there is no error.
func (q *queue) checkUnused() error {
	if q.incomplete {
		return nil
	}
	for _, set := range q.settings.Set {
		if !q.set[set.Name] {
			return usageError(fmt.Sprintf("--set %s=%s: no object has a global variable of this name",
				set.Name, set.Value))
		}
	}
	for _, size := range q.settings.MapSize {
		if !q.mapSize[size.Name] {
			return usageError(fmt.Sprintf("--map-size %s=%s: no object has a map of this name",
				size.Name, size.Value))
		}
	}
	for option, names := range map[string][]string{
		"only": q.settings.Only, "optional": q.settings.Optional,
		"variants": slices.Concat(q.settings.Variants...),
	} {
		for _, name := range names {
			if !q.programs[name] {
				return usageError(fmt.Sprintf("--%s %s: no object has a program of this name", option, name))
			}
		}
	}
	return nil
}
