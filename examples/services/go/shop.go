// A shop that emits and acts through its sidecar, with nothing but Go's standard library: go run shop.go (see ../README.md)
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type order struct {
	ID   int    `json:"order_id"`
	Item string `json:"item"`
}

var (
	sidecar  = environment("WALNATSD_URL", "http://127.0.0.1:7521")
	key, bad = base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
	client   = http.Client{Timeout: 20 * time.Second} // above emit.timeout of the sidecar
	mutex    sync.Mutex
	shipped  = map[int]bool{} // a real shop asks its database
)

// emit returns once the message is stored, and it is stored once: the uid makes another try safe.
func emit(event, uid string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	answer, err := client.Post(sidecar+"/v1/events/"+event+"?uid="+url.QueryEscape(uid), "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if said, _ := io.ReadAll(answer.Body); answer.StatusCode > 299 {
		return fmt.Errorf("not emitted: %s", said)
	}
	return nil
}

// isSigned checks a Standard Webhook: only the sidecar knows the secret, and an old request is no use to anybody.
func isSigned(header http.Header, body []byte) bool {
	at, err := strconv.ParseInt(header.Get("webhook-timestamp"), 10, 64)
	if err != nil || math.Abs(time.Since(time.Unix(at, 0)).Seconds()) > 300 {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", header.Get("webhook-id"), at, body)
	expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, given := range strings.Fields(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(given), []byte(expected)) {
			return true
		}
	}
	return false
}

// answer does what a request asks for; gives the status and what to say.
func answer(request *http.Request, body []byte) (int, any) {
	var it order
	isOrder := json.Unmarshal(body, &it) == nil && it.ID != 0 && it.Item != ""
	switch request.Method + " " + request.URL.Path {
	case "GET /healthz":
		return 204, nil
	case "GET /parcels":
		mutex.Lock()
		defer mutex.Unlock()
		ids := []int{}
		for id := range shipped {
			ids = append(ids, id)
		}
		return 200, ids
	case "POST /orders":
		if !isOrder {
			return 400, "an order has an order_id and an item"
		}
		if err := emit("order-placed", fmt.Sprint("order-", it.ID), it); err != nil {
			log.Print(err)
			return 500, "this went wrong; try again"
		}
		return 202, it
	// Called at least once for each order. 2xx: done. 422: never, keep it as a dead letter. 5xx or a crash: again later.
	case "POST /ship":
		if !isSigned(request.Header, body) {
			return 401, "not signed by the sidecar"
		}
		if !isOrder {
			return 422, "an order has an order_id and an item"
		}
		if err := emit("parcel-sent", fmt.Sprint("parcel-", it.ID), map[string]int{"order_id": it.ID}); err != nil {
			log.Print(err)
			return 500, "this went wrong; try again"
		}
		mutex.Lock()
		defer mutex.Unlock()
		shipped[it.ID] = true // to ship it again changes nothing
		return 204, nil
	}
	return 404, "no such path"
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	if bad != nil || len(key) == 0 {
		log.Fatal("WEBHOOK_SECRET is whsec_ and base64, as the sidecar has it")
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		status, said := 413, any("too large")
		if body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, 8<<20)); err == nil {
			status, said = answer(request, body)
		}
		response.Header().Set("Content-Type", "application/json")
		response.WriteHeader(status)
		if said != nil {
			json.NewEncoder(response).Encode(said)
		}
	})
	server := &http.Server{Addr: net.JoinHostPort(environment("HOST", "127.0.0.1"), environment("PORT", "8000"))}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-ctx.Done()
	server.Shutdown(context.Background()) // what is in flight is answered
}
