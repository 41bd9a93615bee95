package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	flannelkube "github.com/flannel-io/flannel/pkg/subnet/kube"
)

// flannel carries pods' packets between nodes. Upstream's own program links a
// client of a public cloud and writes a file for a plugin that reads it; this one
// writes the plugin list itself, for the ptp plugin that every image has.
func flannel() int {
	flags := flag.NewFlagSet("flanneld", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "/etc/kubernetes/flannel.conf", "how to reach the API server")
	config := flags.String("config", "/etc/cumulet/flannel.json", "network and backend")
	address := flags.String("address", "", "address of this node by which the others reach it")
	list := flags.String("cni", "/etc/cni/net.d/10-cumulet.conflist", "the plugin list that is written")
	_ = flags.Parse(os.Args[1:])
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var workers sync.WaitGroup
	network, err := startFlannel(ctx, &workers, *kubeconfig, *config, *address)
	if err == nil {
		err = writeList(*list, network.Lease().Subnet.String(), network.MTU())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "flanneld: %s\n", err)
		return 1
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	network.Run(ctx)
	workers.Wait()
	return 0
}

func startFlannel(
	ctx context.Context, workers *sync.WaitGroup, kubeconfig, file, address string,
) (backend.Network, error) {
	manager, err := flannelkube.NewSubnetManager(ctx, "", kubeconfig, "flannel.alpha.coreos.com", file, true)
	if err != nil {
		return nil, fmt.Errorf("subnets: %w", err)
	}
	config, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	family, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	public := ipmatch.PublicIPOpts{PublicIP: address}
	link, err := ipmatch.LookupExtIface(address, "", "", family, public)
	if err != nil {
		return nil, fmt.Errorf("no interface has the address %q: %w", address, err)
	}
	chosen, err := backend.NewManager(ctx, manager, link).GetBackend(config.BackendType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	// A new node has no range of addresses until the controller manager has given it one.
	for {
		network, err := chosen.RegisterNetwork(ctx, workers, config)
		if err == nil || ctx.Err() != nil {
			return network, err
		}
		fmt.Fprintf(os.Stderr, "flanneld: %s; trying again\n", err)
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// writeList replaces the plugin list in one step; an unchanged one stays as it is,
// so that the container runtime does not load it anew.
func writeList(path, subnet string, mtu int) error {
	addresses := map[string]any{
		"type":    "host-local",
		"ranges":  [][]map[string]string{{{"subnet": subnet}}},
		"routes":  []map[string]string{{"dst": "0.0.0.0/0"}},
		"dataDir": "/run/cni/networks",
	}
	text, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       "cumulet",
		"plugins":    []map[string]any{{"type": "ptp", "ipMasq": false, "mtu": mtu, "ipam": addresses}},
	}, "", "  ")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text)+"\n" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
