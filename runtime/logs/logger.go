// Package logs provides the log server of the device and the logger of the runtime.
package logs

import "fmt"

// Level is the severity of a message, as in the manual's log level table.
type Level int

// The levels. A configured level passes messages of itself and of all lower numbers.
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

// String returns the level's name as in log files.
func (l Level) String() string {
	if l < Fatal || l > All {
		return fmt.Sprintf("LEVEL%d", int(l))
	}
	return levelNames[l]
}

// Sink takes finished messages. It does not block its caller: when it cannot keep up,
// it drops messages and counts them.
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

// Fatalf logs an error that ends the runtime; it does not end it.
func (l Logger) Fatalf(format string, args ...any) { l.logf(Fatal, format, args) }

// Errorf logs an error.
func (l Logger) Errorf(format string, args ...any) { l.logf(Error, format, args) }

// Warnf logs a possible problem.
func (l Logger) Warnf(format string, args ...any) { l.logf(Warn, format, args) }

// Infof logs a normal event.
func (l Logger) Infof(format string, args ...any) { l.logf(Info, format, args) }

// Debugf logs details for debugging.
func (l Logger) Debugf(format string, args ...any) { l.logf(Debug, format, args) }
