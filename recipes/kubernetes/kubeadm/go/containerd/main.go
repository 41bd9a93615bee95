// Command containerd is the container runtime, its client ctr and the program
// that makes it know the images of the root file system, in one file; the name
// it is called by selects the program. The shim stays a program of its own: one
// runs beside every pod, so it must be small.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins"
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	ctr "github.com/containerd/containerd/v2/cmd/ctr/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	var err error
	switch name {
	case "cumulet-preload":
		err = preload(os.Args[1:])
	case "ctr":
		err = ctr.New().Run(os.Args)
	default:
		err = command.App().Run(os.Args)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, err)
		os.Exit(1)
	}
}
