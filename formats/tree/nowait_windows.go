package tree

// noWait is not needed: there are no FIFOs in directories.
const noWait = 0
