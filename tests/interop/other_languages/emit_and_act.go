// An actor and an emitter with nothing but Go's standard library. Prints the actor's port, waits for a line with the
// sidecar's http address, emits, and prints a line of JSON for every answer and every delivery. Ends when its input ends.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

type object map[string]any

var output sync.Mutex

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func tell(what object) {
	output.Lock()
	defer output.Unlock()
	must(json.NewEncoder(os.Stdout).Encode(what))
}

func act(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	must(err)
	headers := map[string]string{}
	for name, values := range request.Header {
		headers[strings.ToLower(name)] = values[0]
	}
	tell(object{"received": string(body), "headers": headers})
	// the second one is taken on its second attempt
	if headers["walnats-uid"] == "two" && headers["walnats-attempt"] == "1" {
		response.WriteHeader(http.StatusInternalServerError)
		return
	}
	response.WriteHeader(http.StatusNoContent)
}

func emit(sidecar, event, uid string, payload object) {
	body, err := json.Marshal(payload)
	must(err)
	url := "http://" + sidecar + "/v1/events/" + event + "?trace_id=t-" + uid
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	must(err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", `"`+uid+`"`)
	request.Header.Set("ce-subject", uid)
	request.Header.Set("walnats-header-X-Language", "any")
	response, err := http.DefaultClient.Do(request)
	must(err)
	defer response.Body.Close()
	var answer object
	must(json.NewDecoder(response.Body).Decode(&answer))
	tell(object{"status": response.StatusCode, "answer": answer})
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() { must(http.Serve(listener, http.HandlerFunc(act))) }()
	tell(object{"port": listener.Addr().(*net.TCPAddr).Port})
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		emit(input.Text(), "greetings", "one", object{"text": "grüß dich"})
		emit(input.Text(), "greetings", "two", object{"text": "again"})
		emit(input.Text(), "greetings", "one", object{"text": "grüß dich"})
		emit(input.Text(), "nobody-knows", "three", object{})
	}
}
