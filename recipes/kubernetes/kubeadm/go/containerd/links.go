package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
)

// linked keeps the overlayfs snapshotter's own records, but a snapshot's folder
// is a symbolic link to `next`: overlayfs follows it when it mounts a container.
type linked struct {
	snapshots.Snapshotter // what preloading does not need
	root                  string
	meta                  *storage.MetaStore
	next                  layer
}

func openLinks(root string) (*linked, error) {
	meta, err := storage.NewMetaStore(filepath.Join(root, "metadata.db"))
	if err != nil {
		return nil, err
	}
	return &linked{root: root, meta: meta}, os.MkdirAll(filepath.Join(root, "snapshots"), 0o700)
}

func (l *linked) Stat(ctx context.Context, key string) (info snapshots.Info, err error) {
	err = l.meta.WithTransaction(ctx, false, func(ctx context.Context) error {
		_, info, _, err = storage.GetInfo(ctx, key)
		return err
	})
	return info, err
}

func (l *linked) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return nil, l.meta.WithTransaction(ctx, true, func(ctx context.Context) error {
		made, err := storage.CreateSnapshot(ctx, snapshots.KindActive, key, parent, opts...)
		if err != nil {
			return err
		}
		folder := filepath.Join(l.root, "snapshots", made.ID)
		if err := os.MkdirAll(filepath.Join(folder, "work"), 0o711); err != nil {
			return err
		}
		if link := filepath.Join(folder, "fs"); missing(link) {
			return os.Symlink(l.next.Path, link)
		}
		return nil
	})
}

func (l *linked) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return l.meta.WithTransaction(ctx, true, func(ctx context.Context) error {
		_, err := storage.CommitActive(ctx, key, name, snapshots.Usage{Inodes: 1, Size: l.next.Size}, opts...)
		return err
	})
}
