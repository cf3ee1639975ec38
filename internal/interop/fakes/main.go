// Command fakes runs the servers of internal/fakes for clients of other makers: a
// hub, ModelScope and an object store on loopback that serve the files of a folder.
//
//	fakes ORG/NAME [DIR]
//
// It prints one line of JSON with their addresses and ends with its standard input.
// Each line that it reads there is answered with the requests since the last one.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/fakes/fakes3"
	"github.com/glmconv/glmconv/internal/fakes/fakescope"
)

// bucket is the object store's; the files lie in it under the name of the repository.
const bucket = "models"

// process stands for a test: what goes wrong ends the program.
type process struct{ testing.TB }

func (process) Helper()        {}
func (process) Cleanup(func()) {} // the servers end with the process
func (process) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"fakes:"}, args...)...)
	os.Exit(1)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		process{}.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("usage: fakes ORG/NAME [DIR]")
	}
	files := map[string][]byte{}
	if len(args) == 2 {
		var err error
		if files, err = fakehub.Folder(args[1]); err != nil {
			return err
		}
	}
	hub := fakehub.NewFiles(process{}, args[0], files)
	hub.Part = 256 << 10
	scope := fakescope.New(process{}, args[0], files)
	objects := map[string][]byte{}
	for name, data := range files {
		objects[args[0]+"/"+name] = data
	}
	store := fakes3.New(process{}, bucket, objects)
	out := json.NewEncoder(os.Stdout)
	err := out.Encode(map[string]string{"hub": hub.URL, "data": hub.Data, "commit": hub.Commit, "modelscope": scope.URL, "s3": store.URL, "bucket": bucket})
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		log := map[string][]fakes.Request{}
		for name, r := range map[string]*fakes.Rules{"hub": hub.Rules, "modelscope": scope.Rules, "s3": store.Rules} {
			log[name] = r.Log()
			r.Reset()
		}
		if err := out.Encode(log); err != nil {
			return err
		}
	}
	return nil
}
