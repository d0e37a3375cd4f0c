// The program of the container pv-stub-image: it says that it runs, and runs until it is told to
// end.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("pv-stub-image runs")
	<-end
}
