// Command etcd is the etcd server, its client etcdctl, and the part of etcdutl that
// restores a snapshot, in one file; the name it is called by selects the program.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	switch filepath.Base(os.Args[0]) {
	case "etcdctl":
		ctlv3.MustStart()
	case "etcdutl":
		etcdutl.OutputFormat = "simple"
		command := etcdutl.NewSnapshotCommand()
		if len(os.Args) > 1 && os.Args[1] == command.Name() {
			command.SetArgs(os.Args[2:])
		}
		if err := command.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		etcdmain.Main(os.Args)
	}
}
