// Package container starts containers: it reads the container's configuration (in
// LXC's format), makes the namespaces, the control group and the root, and watches the
// container's first process until it has ended.
//
// A start has two sides. The launcher clones a process into new namespaces and its
// control group; that process runs this same binary again as "container-init", the
// first stage. The first stage reads a plan from descriptor 3, mounts what the plan
// says, changes its root and becomes the container's own init by execve. Descriptor 3
// is a packet socket: the first stage sends the console's master side, or the step
// that failed with the error; end of file without an error means that execve
// succeeded.
//
// With start hooks, which are programs of the container, the first stage executes this
// binary once more when it has given up every right that init will not have. This
// second stage gets a plan of its own, runs the hooks and then becomes init.
//
// Nothing of a container outlives its first process: the kernel kills the processes in
// its PID namespace and drops its mounts with the mount namespace, and the launcher
// kills processes that joined the control group from outside before it removes the
// group.
package container
