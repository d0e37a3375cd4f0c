package emulator

import (
	"context"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/targets"
)

// pc is the machine of these tests.
func pc(t *testing.T, firmware string) targets.Emulator {
	t.Helper()
	e := targets.Emulator{System: "x86_64", Machine: "q35", Memory: 128, Firmware: firmware}
	if missing := Missing(e); len(missing) > 0 {
		t.Skipf("missing on this host: %v", missing)
	}
	return e
}

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestFirmwareBoots(t *testing.T) {
	ctx := deadline(t, 2*time.Minute)
	m, err := Start(ctx, Config{Emulator: pc(t, "uefi"), NoNetwork: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if out, err := m.Console.Expect(ctx, probeMarker); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	m.Kill()
	if err := m.Wait(ctx); err == nil {
		t.Error("a killed QEMU counts as a power-off")
	}
	if _, err := m.Console.Expect(ctx, "never printed"); err == nil {
		t.Error("Expect finds what was not printed")
	}
}

