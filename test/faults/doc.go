// Package faults makes every file operation of an update fail, one after the other:
// objects and a step come over the control socket, the step is laid out, tried and
// committed, and garbage is collected. Whatever fails, the error says so, nothing is
// there by halves, what was committed still runs, and another attempt succeeds.
package faults
