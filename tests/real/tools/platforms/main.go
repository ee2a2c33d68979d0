// Reads one JSON object a line, {"node": "linux/arm/v7", "index": "BASE64"}, and answers for each with the entries of the index
// as Go decodes them, and with the digests of those that container runtimes pick on such a node: containerd 2 by its own walk
// of an index, containerd 1 by its matcher, CRI-O by its choice (go.podman.io/image), each from the whole index and from every
// entry alone, so that what an earlier entry hides is seen as well. "error" says that Go does not decode the index.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	containerd1 "containerd1.invalid/platforms"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	containerd2 "github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

type question struct {
	Node  string `json:"node"`
	Index []byte `json:"index"`
}

type answer struct {
	Error       string               `json:"error,omitempty"`
	Entries     []ocispec.Descriptor `json:"entries"`
	Containerd1 []string             `json:"containerd1"`
	Containerd2 []string             `json:"containerd2"`
	CRIO        []string             `json:"crio"`
}

// Content that carries the digest by which it was asked for, in a runtime's store: manifests say it in an annotation, an index
// holds one manifest of the same digest, and a configuration is of the node's platform.
type store struct {
	node  ocispec.Platform
	index []byte
	named digest.Digest
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

const picked = "picked"

func (s store) ReaderAt(_ context.Context, of ocispec.Descriptor) (content.ReaderAt, error) {
	var held any
	switch {
	case of.Digest == s.named:
		return blob{bytes.NewReader(s.index)}, nil
	case images.IsManifestType(of.MediaType):
		held = ocispec.Manifest{
			Config:      ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: of.Digest, Size: -1},
			Annotations: map[string]string{picked: of.Digest.String()},
		}
	case images.IsIndexType(of.MediaType):
		held = ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: of.Digest, Size: -1}}}
	default:
		held = s.node
	}
	bytes_, err := json.Marshal(held)
	return blob{bytes.NewReader(bytes_)}, err
}

// The index, and each of its entries in an index alone.
func parts(index []byte, entries []ocispec.Descriptor) ([][]byte, error) {
	all := [][]byte{index}
	for _, entry := range entries {
		alone, err := json.Marshal(ocispec.Index{Manifests: []ocispec.Descriptor{entry}})
		if err != nil {
			return nil, err
		}
		// The Go type leaves it out where it is not said.
		all = append(all, bytes.Replace(alone, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1))
	}
	return all, nil
}

func byContainerd2(index []byte, node ocispec.Platform) []string {
	matchers := []containerd2.MatchComparer{containerd2.Only(node), containerd2.OnlyStrict(node)}
	if linux, also := beside(node); also {
		matchers = append(matchers, containerd2.Ordered(node, linux))
	}
	chosen := []string{}
	for _, matcher := range matchers {
		for _, mediaType := range []string{ocispec.MediaTypeImageIndex, images.MediaTypeDockerSchema2ManifestList} {
			held := store{node, index, digest.FromString("the index")}
			image := ocispec.Descriptor{MediaType: mediaType, Digest: held.named, Size: int64(len(index))}
			if found, err := images.Manifest(context.Background(), held, image, matcher); err == nil {
				chosen = append(chosen, found.Annotations[picked])
			}
		}
	}
	return chosen
}

func byContainerd1(entries []ocispec.Descriptor, node ocispec.Platform) []string {
	matchers := []containerd1.MatchComparer{containerd1.Only(node), containerd1.OnlyStrict(node)}
	if linux, also := beside(node); also {
		matchers = append(matchers, containerd1.Ordered(node, linux))
	}
	chosen := []string{}
	for _, matcher := range matchers {
		for _, entry := range entries {
			if entry.Platform == nil || matcher.Match(*entry.Platform) {
				chosen = append(chosen, entry.Digest.String())
			}
		}
	}
	return chosen
}

// What containerd's default on these systems takes as well (defaults_freebsd.go, defaults_darwin.go).
func beside(node ocispec.Platform) (ocispec.Platform, bool) {
	linux := ocispec.Platform{OS: "linux", Architecture: node.Architecture, Variant: node.Variant}
	return linux, node.OS == "freebsd" || node.OS == "darwin"
}

func byCRIO(index []byte, node ocispec.Platform) []string {
	chosen := []string{}
	for _, mediaType := range []string{ocispec.MediaTypeImageIndex, manifest.DockerV2ListMediaType} {
		list, err := manifest.ListFromBlob(index, mediaType)
		if err != nil {
			continue
		}
		node := &types.SystemContext{OSChoice: node.OS, ArchitectureChoice: node.Architecture, VariantChoice: node.Variant}
		if found, err := list.ChooseInstance(node); err == nil {
			chosen = append(chosen, found.String())
		}
	}
	return chosen
}

// The nodes that a platform stands for: all variants where none is named.
func nodes(asked string) ([]ocispec.Platform, error) {
	node, err := containerd2.Parse(asked)
	if err != nil || strings.Count(asked, "/") == 2 {
		return []ocispec.Platform{node}, err
	}
	all := []ocispec.Platform{}
	for _, variant := range []string{"", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v8.2", "v9", "v9.2"} {
		node.Variant = variant
		all = append(all, node)
	}
	return all, nil
}

func reply(asked question) (answer, error) {
	said := answer{Entries: []ocispec.Descriptor{}}
	nodes, err := nodes(asked.Node)
	if err != nil {
		return said, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(asked.Index, &index); err != nil {
		said.Error = err.Error()
		return said, nil
	}
	said.Entries = append(said.Entries, index.Manifests...)
	parts, err := parts(asked.Index, index.Manifests)
	if err != nil {
		return said, err
	}
	for _, node := range nodes {
		said.Containerd1 = append(said.Containerd1, byContainerd1(index.Manifests, node)...)
		for _, part := range parts {
			said.Containerd2 = append(said.Containerd2, byContainerd2(part, node)...)
			said.CRIO = append(said.CRIO, byCRIO(part, node)...)
		}
	}
	for _, chosen := range []*[]string{&said.Containerd1, &said.Containerd2, &said.CRIO} {
		slices.Sort(*chosen)
		*chosen = slices.Compact(*chosen)
		if *chosen == nil {
			*chosen = []string{}
		}
	}
	return said, nil
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		err := json.Unmarshal(lines.Bytes(), &asked)
		if err == nil {
			var said answer
			if said, err = reply(asked); err == nil {
				err = out.Encode(said)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
