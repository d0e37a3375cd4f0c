// Package house holds the tests by which the repository polices itself: documents,
// names, lengths and the direction of imports.
package house
