// Command kube is every Kubernetes program in one file. The name it is called
// by selects the program, so the code they share is stored and mapped once.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubeadmerrors "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func serve(command *cobra.Command) int { return cli.Run(command) }

var programs = map[string]func() int{
	"kube-apiserver":          func() int { return serve(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() int { return serve(controllers.NewControllerManagerCommand()) },
	"kube-proxy":              func() int { return serve(proxy.NewProxyCommand()) },
	"kube-scheduler":          func() int { return serve(scheduler.NewSchedulerCommand()) },
	"kubeadm": func() int {
		kubeadmerrors.HandleError(kubeadm.Run())
		return 0
	},
	"kubectl": func() int {
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
		return 0
	},
	"node-ready": ready,
	"flanneld":   flannel,
	"kubelet":    func() int { return serve(kubelet.NewKubeletCommand(context.Background())) },
}

func main() {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	if name == "kube" && len(os.Args) > 1 {
		name, os.Args = os.Args[1], os.Args[1:]
	}
	run, known := programs[name]
	if !known {
		names := make([]string, 0, len(programs))
		for each := range programs {
			names = append(names, each)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "kube: no program %q; one of: %s\n", name, strings.Join(names, " "))
		os.Exit(2)
	}
	os.Exit(run())
}
