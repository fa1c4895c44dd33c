// etcd 3.6 as a plain program: `go install` refuses etcd's own module for its replace directives,
// a module that merely requires the server does not carry them.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
