// Reads manifests as kubectl does, with its own library, so that the gate's reading can be held
// against it. Each request on standard input is a line with a length and that many bytes; each
// answer on standard output is a line of JSON.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/cli-runtime/pkg/resource"
)

type answer struct {
	// Every document up to the first that cannot be read, as JSON.
	Documents []json.RawMessage `json:"documents"`
	// Every object that kubectl would apply, taken out of lists.
	Objects []runtime.Object `json:"objects"`
	// Why reading ended early.
	Error string `json:"error,omitempty"`
}

func read(manifests []byte) answer {
	result := answer{Documents: []json.RawMessage{}, Objects: []runtime.Object{}}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		document := runtime.RawExtension{}
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			result.Error = err.Error()
			break
		}
		if len(bytes.TrimSpace(document.Raw)) > 0 {
			result.Documents = append(result.Documents, document.Raw)
		}
	}
	objects := resource.NewLocalBuilder().Unstructured().ContinueOnError().
		Stream(bytes.NewReader(manifests), "-").Flatten().Do()
	err := objects.Visit(func(info *resource.Info, err error) error {
		if err == nil && info.Object != nil {
			result.Objects = append(result.Objects, info.Object)
		}
		return err
	})
	if err != nil && result.Error == "" {
		result.Error = err.Error()
	}
	return result
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		var length int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "%d", &length); err != nil {
			log.Fatal(err)
		}
		manifests := make([]byte, length)
		if _, err := io.ReadFull(in, manifests); err != nil {
			log.Fatal(err)
		}
		if err := json.NewEncoder(out).Encode(read(manifests)); err != nil {
			log.Fatal(err)
		}
		if err := out.Flush(); err != nil {
			log.Fatal(err)
		}
	}
}
