// Publishes a file as the target `trusted_root.json` of a TUF repository in a folder, under the next version of its metadata,
// which is made and signed by go-tuf. The first call makes the repository; with -rotate, the keys of all roles are replaced.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

const target = "trusted_root.json"

// The keys: two of `root`, both of which have to sign, and one of the other roles.
var names = []string{"root-a", "root-b", "online"}

type keys map[string]*ecdsa.PrivateKey

func main() {
	site := flag.String("site", "", "the folder that is served")
	private := flag.String("keys", "", "the folder of the private keys")
	file := flag.String("target", "", "the file to publish")
	valid := flag.Duration("valid", time.Hour, "how long the metadata is valid, apart from that of root")
	rotate := flag.Bool("rotate", false, "replace all keys first")
	flag.Parse()

	former, root := load(*private), latest(*site, "root")
	present := former
	if root == 0 || *rotate {
		present = generate(*private)
		root++
		write(*site, fmt.Sprintf("%d.root.json", root), rootOf(root, present), signers(names[:2], former, present)...)
	}

	version := latest(*site, "targets") + 1
	expires := time.Now().UTC().Add(*valid).Truncate(time.Second)
	online := signers(names[2:], present)

	targets := metadata.Targets(expires)
	targets.Signed.Version = version
	info, err := metadata.TargetFile().FromFile(*file, "sha256")
	check(err)
	targets.Signed.Targets[target] = info
	content, err := os.ReadFile(*file)
	check(err)
	check(os.MkdirAll(filepath.Join(*site, "targets"), 0o755))
	hashed := fmt.Sprintf("%s.%s", info.Hashes["sha256"], target)
	check(os.WriteFile(filepath.Join(*site, "targets", hashed), content, 0o644))
	write(*site, fmt.Sprintf("%d.targets.json", version), targets, online...)

	snapshot := metadata.Snapshot(expires)
	snapshot.Signed.Version = version
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(version)
	write(*site, fmt.Sprintf("%d.snapshot.json", version), snapshot, online...)

	timestamp := metadata.Timestamp(expires)
	timestamp.Signed.Version = version
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(version)
	write(*site, "timestamp.json", timestamp, online...)
}

func rootOf(version int64, present keys) *metadata.Metadata[metadata.RootType] {
	root := metadata.Root(time.Now().UTC().AddDate(1, 0, 0).Truncate(time.Second))
	root.Signed.Version = version
	root.Signed.ConsistentSnapshot = true
	for _, name := range names {
		key, err := metadata.KeyFromPublicKey(present[name].Public())
		check(err)
		roles := []string{metadata.ROOT}
		if name == "online" {
			roles = []string{metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP}
		}
		for _, role := range roles {
			check(root.Signed.AddKey(key, role))
		}
	}
	root.Signed.Roles[metadata.ROOT].Threshold = 2
	return root
}

func write[T metadata.Roles](site, name string, document *metadata.Metadata[T], by ...signature.Signer) {
	for _, signer := range by {
		_, err := document.Sign(signer)
		check(err)
	}
	check(os.MkdirAll(site, 0o755))
	check(document.ToFile(filepath.Join(site, name), true))
}

// The signers of these names in some sets of keys.
func signers(names []string, sets ...keys) []signature.Signer {
	var all []signature.Signer
	for _, set := range sets {
		for _, name := range names {
			if key := set[name]; key != nil {
				signer, err := signature.LoadSigner(key, crypto.SHA256)
				check(err)
				all = append(all, signer)
			}
		}
	}
	return all
}

// The highest version of a role's files, or 0.
func latest(site, role string) int64 {
	version := int64(0)
	for {
		if _, err := os.Stat(filepath.Join(site, fmt.Sprintf("%d.%s.json", version+1, role))); err != nil {
			return version
		}
		version++
	}
}

func load(folder string) keys {
	all := keys{}
	for _, name := range names {
		der, err := os.ReadFile(filepath.Join(folder, name))
		if os.IsNotExist(err) {
			return keys{}
		}
		check(err)
		key, err := x509.ParseECPrivateKey(der)
		check(err)
		all[name] = key
	}
	return all
}

func generate(folder string) keys {
	all := keys{}
	check(os.MkdirAll(folder, 0o700))
	for _, name := range names {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(err)
		der, err := x509.MarshalECPrivateKey(key)
		check(err)
		check(os.WriteFile(filepath.Join(folder, name), der, 0o600))
		all[name] = key
	}
	return all
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
