// Package logs is the log server of the device and the logger that the runtime
// itself writes to.
package logs

import "fmt"

// Level is the severity of a message, as in the manual's log level table.
type Level int

// The levels; a configured level lets through itself and all lower numbers.
const (
	Fatal Level = iota
	Error
	Warn
	Info
	Debug
	Trace
	All
)

var levelNames = [...]string{"FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "ALL"}

// String returns the level's name as it stands in log files.
func (l Level) String() string {
	if l < Fatal || l > All {
		return fmt.Sprintf("LEVEL%d", int(l))
	}
	return levelNames[l]
}

// Sink takes finished messages. It never blocks its caller for long: a sink that
// cannot keep up drops and counts.
type Sink interface {
	// Log takes one message of a platform (container name, or "pantavisor") and a
	// source within it (for the runtime the package's name, "init", "engine").
	Log(platform, source string, level Level, msg string)
}

// Logger writes the messages of one part of the runtime. The zero Logger discards.
type Logger struct {
	Sink   Sink
	Source string
}

// Named returns a logger of the same sink for another source.
func (l Logger) Named(source string) Logger { return Logger{l.Sink, source} }

func (l Logger) logf(level Level, format string, args []any) {
	if l.Sink == nil {
		return
	}
	l.Sink.Log("pantavisor", l.Source, level, fmt.Sprintf(format, args...))
}

// Fatalf logs what ends the runtime; it does not end it.
func (l Logger) Fatalf(format string, args ...any) { l.logf(Fatal, format, args) }

// Errorf logs what went wrong.
func (l Logger) Errorf(format string, args ...any) { l.logf(Error, format, args) }

// Warnf logs what may be wrong.
func (l Logger) Warnf(format string, args ...any) { l.logf(Warn, format, args) }

// Infof logs what happens.
func (l Logger) Infof(format string, args ...any) { l.logf(Info, format, args) }

// Debugf logs what helps to find a defect.
func (l Logger) Debugf(format string, args ...any) { l.logf(Debug, format, args) }
