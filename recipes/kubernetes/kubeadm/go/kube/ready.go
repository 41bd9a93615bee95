package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// ready waits until a node is Ready and prints the seconds since the kernel
// started. One process that asks again and again: every start of this program
// costs more on a slow CPU than a hundred questions.
func ready() int {
	flags := flag.NewFlagSet("node-ready", flag.ExitOnError)
	config := flags.String("kubeconfig", "/etc/kubernetes/kubelet.conf", "how to reach the API server")
	node := flags.String("node", "", "name of the node; default: this host's name")
	limit := flags.Duration("timeout", 30*time.Minute, "give up after this long")
	_ = flags.Parse(os.Args[1:])
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	for {
		err := askReady(ctx, *config, *node)
		if err == nil {
			fmt.Printf("cumulet: ready %s\n", uptime())
			return 0
		}
		select {
		case <-ctx.Done():
			fmt.Fprintf(os.Stderr, "node-ready: not within %s: %s\n", *limit, err)
			return 1
		case <-time.After(time.Second):
		}
	}
}

func askReady(ctx context.Context, path, name string) error {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return err
	}
	config.Timeout = 10 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		name = strings.ToLower(host)
	}
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	// What another boot of this node reported says nothing about this one.
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil && strings.TrimSpace(string(boot)) != node.Status.NodeInfo.BootID {
		return fmt.Errorf("node %s has not reported since it booted", name)
	}
	for _, each := range node.Status.Conditions {
		if each.Type == corev1.NodeReady && each.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("node %s is not Ready", name)
}

func uptime() string {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
