package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

const (
	snapshotter    = "overlayfs"
	contentFolder  = "io.containerd.content.v1.content"
	metadataFolder = "io.containerd.metadata.v1.bolt"
	snapshotFolder = "io.containerd.snapshotter.v1." + snapshotter
	ownLabel       = "cumulet.dev/preloaded"
)

// plan is preload.json: what the root file system offers.
type plan struct {
	Epoch  int64   `json:"epoch"`
	Images []image `json:"images"`
}

type image struct {
	Name     string             `json:"name"`
	Pinned   bool               `json:"pinned"`
	Manifest ocispec.Descriptor `json:"manifest"`
	Layers   []layer            `json:"layers"`
}

// layer is a folder of the root file system that serves as an unpacked layer.
type layer struct {
	Chain string `json:"chain"`
	Path  string `json:"path"`
	Size  int64  `json:"size"`
}

// preload makes containerd know images whose layers already lie, unpacked, in
// the read-only root: `cumulet-preload FOLDER CONTAINERD-ROOT`. FOLDER has
// preload.json and the manifests and configs as blobs/sha256/DIGEST. Nothing is
// unpacked or copied: a layer is a symbolic link to its folder. Running it again
// changes nothing; images of an older root that are no longer named are dropped.
// containerd must not run. With --reproducible, the databases come out the same
// for the same plan, byte by byte.
func preload(arguments []string) error {
	reproducible := len(arguments) > 0 && arguments[0] == "--reproducible"
	if reproducible {
		arguments = arguments[1:]
	}
	if len(arguments) != 2 {
		return errors.New("usage: cumulet-preload [--reproducible] FOLDER CONTAINERD-ROOT")
	}
	from, root := arguments[0], arguments[1]
	text, err := os.ReadFile(filepath.Join(from, "preload.json"))
	if err != nil {
		return err
	}
	var wanted plan
	if err := json.Unmarshal(text, &wanted); err != nil {
		return fmt.Errorf("%s/preload.json: %w", from, err)
	}
	if err := fill(wanted, from, root); err != nil {
		return err
	}
	if !reproducible {
		return nil
	}
	epoch := time.Unix(wanted.Epoch, 0).UTC()
	for _, name := range []string{metadataFolder + "/meta.db", snapshotFolder + "/metadata.db"} {
		if err := settle(filepath.Join(root, name), epoch); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func fill(wanted plan, from, root string) error {
	for _, name := range []string{contentFolder, metadataFolder, snapshotFolder} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o700); err != nil {
			return err
		}
	}
	store, err := local.NewStore(filepath.Join(root, contentFolder))
	if err != nil {
		return err
	}
	links, err := openLinks(filepath.Join(root, snapshotFolder))
	if err != nil {
		return err
	}
	defer links.meta.Close()
	file, err := bolt.Open(filepath.Join(root, metadataFolder, "meta.db"), 0o644, nil)
	if err != nil {
		return err
	}
	defer file.Close()
	db := metadata.NewDB(file, store, map[string]snapshots.Snapshotter{snapshotter: links})
	ctx := namespaces.WithNamespace(context.Background(), "k8s.io")
	if err := db.Init(ctx); err != nil {
		return err
	}
	names := map[string]bool{}
	for _, each := range wanted.Images {
		id, err := addImage(ctx, db, links, each, from)
		if err != nil {
			return fmt.Errorf("%s: %w", each.Name, err)
		}
		names[each.Name], names[id] = true, true
	}
	return dropOthers(ctx, metadata.NewImageStore(db), names)
}

// addImage returns the image's id: the digest of its config.
func addImage(ctx context.Context, db *metadata.DB, links *linked, each image, from string) (string, error) {
	read := func(of digest.Digest) ([]byte, error) {
		return os.ReadFile(filepath.Join(from, "blobs", string(of.Algorithm()), of.Encoded()))
	}
	text, err := read(each.Manifest.Digest)
	if err != nil {
		return "", err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		return "", err
	}
	config, err := read(manifest.Config.Digest)
	if err != nil {
		return "", err
	}
	top, err := addLayers(ctx, db.Snapshotter(snapshotter), links, each.Layers)
	if err != nil {
		return "", err
	}
	// The garbage collector follows these labels: image -> manifest -> config -> snapshot.
	onManifest := map[string]string{"containerd.io/gc.ref.content.config": manifest.Config.Digest.String()}
	onConfig := map[string]string{"containerd.io/gc.ref.snapshot." + snapshotter: top}
	if err := addBlob(ctx, db.ContentStore(), each.Manifest, text, onManifest); err != nil {
		return "", err
	}
	if err := addBlob(ctx, db.ContentStore(), manifest.Config, config, onConfig); err != nil {
		return "", err
	}
	id := manifest.Config.Digest.String()
	labels := map[string]string{"io.cri-containerd.image": "managed", ownLabel: "yes"}
	if each.Pinned {
		labels["io.cri-containerd.pinned"] = "pinned"
	}
	for _, name := range []string{each.Name, id} {
		record := images.Image{Name: name, Target: each.Manifest, Labels: labels}
		if err := addRecord(ctx, metadata.NewImageStore(db), record); err != nil {
			return "", err
		}
	}
	return id, nil
}

func addBlob(ctx context.Context, store content.Store, of ocispec.Descriptor, text []byte, labels map[string]string) error {
	err := content.WriteBlob(ctx, store, "preload-"+of.Digest.String(), bytes.NewReader(text), of, content.WithLabels(labels))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func addRecord(ctx context.Context, store images.Store, record images.Image) error {
	old, err := store.Get(ctx, record.Name)
	switch {
	case errdefs.IsNotFound(err):
		_, err = store.Create(ctx, record)
	case err == nil && old.Target.Digest != record.Target.Digest:
		_, err = store.Update(ctx, record)
	}
	return err
}

// addLayers returns the name of the topmost snapshot.
func addLayers(ctx context.Context, store snapshots.Snapshotter, links *linked, layers []layer) (string, error) {
	parent := ""
	for _, each := range layers {
		links.next = each
		_, err := store.Stat(ctx, each.Chain)
		if err == nil {
			parent = each.Chain
			continue
		}
		if !errdefs.IsNotFound(err) {
			return "", err
		}
		key := "preload-" + each.Chain
		if _, err := store.Prepare(ctx, key, parent); err != nil {
			return "", err
		}
		if err := store.Commit(ctx, each.Chain, key); err != nil {
			return "", err
		}
		parent = each.Chain
	}
	return parent, nil
}

func dropOthers(ctx context.Context, store images.Store, names map[string]bool) error {
	all, err := store.List(ctx)
	if err != nil {
		return err
	}
	for _, each := range all {
		if each.Labels[ownLabel] == "" || names[each.Name] {
			continue
		}
		if err := store.Delete(ctx, each.Name); err != nil {
			return err
		}
	}
	return nil
}

// settle sets every time stamp to the epoch and writes the pages afresh, in order.
func settle(path string, epoch time.Time) error {
	stamp, err := epoch.MarshalBinary()
	if err != nil {
		return err
	}
	old, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = old.Update(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bolt.Bucket) error { return stampAll(bucket, stamp) })
	})
	if err != nil {
		return errors.Join(err, old.Close())
	}
	fresh, err := bolt.Open(path+".new", 0o600, &bolt.Options{NoFreelistSync: true, NoSync: true, PageSize: 4096})
	if err != nil {
		return errors.Join(err, old.Close())
	}
	// A transaction for every key: one of many buckets lays out its pages in the
	// order of a Go map, which is another one every time.
	err = errors.Join(bolt.Compact(fresh, old, 1), fresh.Sync())
	if err := errors.Join(err, fresh.Close(), old.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func stampAll(bucket *bolt.Bucket, stamp []byte) error {
	var stamped [][]byte
	err := bucket.ForEach(func(key, value []byte) error {
		if value == nil {
			return stampAll(bucket.Bucket(key), stamp)
		}
		if name := string(key); name == "createdat" || name == "updatedat" {
			stamped = append(stamped, bytes.Clone(key))
		}
		return nil
	})
	for _, key := range stamped {
		err = errors.Join(err, bucket.Put(key, stamp))
	}
	return err
}

// missing tells whether nothing, not even a dangling link, is at path.
func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}
