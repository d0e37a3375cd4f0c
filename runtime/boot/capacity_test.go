package boot

import (
	"testing"

	"github.com/pantavisor/pantavisor/formats/fitslot"
)

func TestCapacityOfPartitions(t *testing.T) {
	onEach(t, func(t *testing.T, newDevice func(*testing.T) *pi) {
		if n, err := newDevice(t).store().Capacity(); n != fatSize || err != nil {
			t.Errorf("%d bytes, %v, want %d", n, err, fatSize)
		}
	})
}

func TestCapacityOfSlotsInFlash(t *testing.T) {
	b := newBoard(t, true, false)
	b.bad = map[string]int64{"fitB": 2 * testBlock}
	const want = testSlot - testBlock - fitslot.Size
	if n, err := b.store(false).Capacity(); n != want || err != nil {
		t.Errorf("with a bad block %d bytes, %v, want %d", n, err, want)
	}
}
