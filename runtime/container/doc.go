// Package container starts containers: it reads the configuration that exports
// carry (LXC's format), makes the namespaces, the control group and the root, and
// watches the container's first process until it has ended.
//
// A start has two sides. The launcher clones a process into new namespaces and its
// control group; that process runs this same binary again as "container-init", the
// first stage. The first stage reads a plan from descriptor 3, mounts what the plan
// says, changes its root and becomes the container's own init by execve. Descriptor 3
// is a socket of packets: the first stage sends the console's master side, or the
// step that went wrong with its reason; end of file without a word means that execve
// happened.
//
// Nothing of a container outlives its first process: the kernel kills what is in its
// PID namespace, its mounts go with its mount namespace, and the launcher kills what
// joined the control group from outside before it removes the group.
package container
