package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Record is what the cache keeps about a run beside the output.
type Record struct {
	Step     string    `json:"step"`
	Key      string    `json:"key"`
	Inputs   []Input   `json:"inputs"`
	Output   string    `json:"output"` // digest of the output directory
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"`
	Wall     float64   `json:"wall_seconds"`
	CPU      float64   `json:"cpu_seconds"` // the step's share of what the process and its children used meanwhile
	Made     time.Time `json:"made"`
	Contains []Content `json:"contains,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
	Uses     []Use     `json:"uses,omitempty"`
	// Boot is the kernel's boot_id under which the output was last known to be complete.
	// A power cut may lose the data of a renamed file; an entry of another boot is
	// therefore verified once before it is used.
	Boot string `json:"boot"`
}

// errRecord reports a record that cannot be trusted.
var errRecord = errors.New("record is damaged")

const checkField = `,"check":"`

// marshal encodes the record as one line of JSON whose last field is the SHA-256 of
// everything before it.
func (r *Record) marshal() ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("writing the record of step %s: %w", r.Step, err)
	}
	body := bytes.TrimSuffix(data, []byte("}"))
	sum := sha256.Sum256(body)
	return fmt.Appendf(body, "%s%s\"}\n", checkField, hex.EncodeToString(sum[:])), nil
}

// readRecord loads a record and checks its digest.
func readRecord(path string) (*Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseRecord(data)
}

func parseRecord(data []byte) (*Record, error) {
	tail := len(checkField) + 2*sha256.Size + len("\"}\n")
	if len(data) < tail {
		return nil, errRecord
	}
	body := data[:len(data)-tail]
	sum := sha256.Sum256(body)
	if !strings.HasPrefix(string(data[len(body):]), checkField+hex.EncodeToString(sum[:])) {
		return nil, errRecord
	}
	r := &Record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if r.Key != keyOf(r.Inputs) {
		return nil, errRecord
	}
	return r, nil
}

// bootID returns the kernel's boot_id, empty when unknown.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
