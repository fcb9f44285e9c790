// What CoreDNS reads out of a Corefile, without a server: its own lexer and parser (github.com/coredns/caddy).
//
// Reads one text a line (a JSON string) from standard input and writes one answer a line. Bedplate's own reader is held
// against it: tests/corefiles.rs.
package main

import (
	"bufio"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/coredns/caddy/caddyfile"
)

type answer struct {
	// Why it is none; empty where it is one.
	Error  string  `json:"error"`
	Blocks []block `json:"blocks"`
	// The SHA-512 by which the plugin reload tells which Corefile is loaded.
	Digest string `json:"digest"`
}

type block struct {
	Keys []string `json:"keys"`
	// The words of each plugin, those of several lines of one name after the other.
	Plugins map[string][]string `json:"plugins"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "corefile-replay:", err)
		os.Exit(1)
	}
}

func run() error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for number := 1; in.Scan(); number++ {
		var text string
		if err := json.Unmarshal(in.Bytes(), &text); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if err := encoder.Encode(parsed(text)); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return out.Flush()
}

func parsed(text string) answer {
	blocks, err := caddyfile.Parse("Corefile", strings.NewReader(text), nil)
	if err != nil {
		return answer{Error: err.Error()}
	}
	whole, err := json.Marshal(blocks)
	if err != nil {
		return answer{Error: err.Error()}
	}
	answer := answer{Digest: fmt.Sprintf("%x", sha512.Sum512(whole))}
	for _, read := range blocks {
		plugins := map[string][]string{}
		for name, tokens := range read.Tokens {
			for _, token := range tokens {
				plugins[name] = append(plugins[name], token.Text)
			}
		}
		answer.Blocks = append(answer.Blocks, block{Keys: read.Keys, Plugins: plugins})
	}
	return answer
}
