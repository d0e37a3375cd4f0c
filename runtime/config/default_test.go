package config

import "testing"

func TestSetDefaultIsBelowEveryLevel(t *testing.T) {
	c := New()
	c.Set(PVConf, "PV_LOG_DIR", "/set")
	c.SetDefault(LogDir, "/other")
	c.SetDefault(SystemRunDir, "/run/here")
	if got := c.String(LogDir); got != "/set" {
		t.Errorf("PV_LOG_DIR is %s: a default has replaced what was set", got)
	}
	if c.String(SystemRunDir) != "/run/here" || c.From(SystemRunDir) != Default {
		t.Errorf("PV_SYSTEM_RUNDIR is %s from %v", c.String(SystemRunDir), c.From(SystemRunDir))
	}
	c.SetDefault(LogLevel, "loud")
	if notes := c.Notes(); len(notes) != 1 || notes[0].Level != Default {
		t.Errorf("a wrong default left the notes %v", notes)
	}
	if New().String(SystemRunDir) == "/run/here" {
		t.Error("another configuration has the default too")
	}
}
