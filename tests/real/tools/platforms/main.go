// Reads one JSON object a line, {"node": "linux/arm/v7", "index": "…"}, and answers for each with the digests of the entries
// that container runtimes pick on such a node: containerd's matcher (github.com/containerd/platforms) and CRI-O's choice
// (go.podman.io/image). "error" says that Go does not read the index at all.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

type question struct {
	Node  string `json:"node"`
	Index string `json:"index"`
}

type answer struct {
	Error      string   `json:"error,omitempty"`
	Entries    []string `json:"entries"`
	Containerd []string `json:"containerd"`
	CRIO       []string `json:"crio"`
}

// As containerd's images.Manifest walks an index: every entry that matches or has no platform, the best first.
func containerd(index ocispec.Index, node ocispec.Platform) []string {
	picked := []string{}
	for _, matcher := range []platforms.MatchComparer{platforms.Only(node), platforms.OnlyStrict(node)} {
		for _, entry := range index.Manifests {
			if entry.Platform == nil || matcher.Match(*entry.Platform) {
				picked = append(picked, entry.Digest.String())
			}
		}
	}
	return picked
}

func crio(text []byte, node ocispec.Platform) []string {
	picked := []string{}
	list, err := manifest.ListFromBlob(text, ocispec.MediaTypeImageIndex)
	if err != nil {
		return picked
	}
	context := &types.SystemContext{OSChoice: node.OS, ArchitectureChoice: node.Architecture, VariantChoice: node.Variant}
	if chosen, err := list.ChooseInstance(context); err == nil {
		picked = append(picked, chosen.String())
	}
	return picked
}

// The nodes that a platform stands for: all variants where none is named.
func nodes(asked string) ([]ocispec.Platform, error) {
	node, err := platforms.Parse(asked)
	if err != nil || strings.Count(asked, "/") == 2 {
		return []ocispec.Platform{node}, err
	}
	all := []ocispec.Platform{}
	for _, variant := range []string{"", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"} {
		node.Variant = variant
		all = append(all, node)
	}
	return all, nil
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		said := answer{Entries: []string{}, Containerd: []string{}, CRIO: []string{}}
		var index ocispec.Index
		nodes, err := nodes(asked.Node)
		if err == nil {
			err = json.Unmarshal([]byte(asked.Index), &index)
		}
		if err != nil {
			said.Error = err.Error()
		} else {
			for _, entry := range index.Manifests {
				said.Entries = append(said.Entries, entry.Digest.String())
			}
			for _, node := range nodes {
				said.Containerd = append(said.Containerd, containerd(index, node)...)
				said.CRIO = append(said.CRIO, crio([]byte(asked.Index), node)...)
			}
		}
		if err := out.Encode(said); err != nil {
			panic(err)
		}
	}
}
