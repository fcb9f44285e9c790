package main

import (
	"context"
	"fmt"
	"net"
	"os"
)

func main() {
	r := net.Resolver{PreferGo: true}
	a, err := r.LookupIPAddr(context.Background(), os.Args[1])
	fmt.Println(a, err)
	if err != nil {
		os.Exit(1)
	}
}
