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

type shop struct {
	sidecar string
	key     []byte
	client  http.Client
	mutex   sync.Mutex
	shipped map[int]bool // a real shop asks its database
}

// emit returns once the message is stored, and it is stored once: the uid makes another try safe.
func (s *shop) emit(ctx context.Context, event, uid string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	address := s.sidecar + "/v1/events/" + event + "?uid=" + url.QueryEscape(uid)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode > 299 {
		return fmt.Errorf("not emitted: %s", answer)
	}
	return nil
}

// isSigned checks a Standard Webhook: only the sidecar knows the secret, and an old request is no use to anybody.
func (s *shop) isSigned(header http.Header, body []byte) bool {
	at, err := strconv.ParseInt(header.Get("webhook-timestamp"), 10, 64)
	if err != nil || math.Abs(time.Since(time.Unix(at, 0)).Seconds()) > 300 {
		return false
	}
	mac := hmac.New(sha256.New, s.key)
	fmt.Fprintf(mac, "%s.%d.%s", header.Get("webhook-id"), at, body)
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, given := range strings.Fields(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(given), expected) {
			return true
		}
	}
	return false
}

// read gives an order; where there is none it has answered with the status.
func read(response http.ResponseWriter, body []byte, status int) (order, bool) {
	var it order
	if err := json.Unmarshal(body, &it); err != nil || it.ID == 0 || it.Item == "" {
		http.Error(response, "an order has an order_id and an item", status)
		return it, false
	}
	return it, true
}

func (s *shop) place(response http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(http.MaxBytesReader(response, request.Body, 1<<20))
	it, ok := read(response, body, http.StatusBadRequest)
	if !ok {
		return
	}
	if err := s.emit(request.Context(), "order-placed", fmt.Sprint("order-", it.ID), it); err != nil {
		log.Print(err)
		http.Error(response, "this went wrong; try again", http.StatusInternalServerError)
		return
	}
	response.WriteHeader(http.StatusAccepted)
}

// ship is called at least once for each order. 2xx: done. 422: never, keep it as a dead letter. 5xx or a crash: again later.
func (s *shop) ship(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, 8<<20))
	if err != nil || !s.isSigned(request.Header, body) {
		http.Error(response, "not signed by the sidecar", http.StatusUnauthorized)
		return
	}
	it, ok := read(response, body, http.StatusUnprocessableEntity)
	if !ok {
		return
	}
	if err := s.emit(request.Context(), "parcel-sent", fmt.Sprint("parcel-", it.ID), map[string]int{"order_id": it.ID}); err != nil {
		log.Print(err)
		http.Error(response, "this went wrong; try again", http.StatusInternalServerError)
		return
	}
	s.mutex.Lock()
	s.shipped[it.ID] = true // to ship it again changes nothing
	s.mutex.Unlock()
	response.WriteHeader(http.StatusNoContent)
}

func (s *shop) parcels(response http.ResponseWriter, _ *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	ids := []int{}
	for id := range s.shipped {
		ids = append(ids, id)
	}
	response.Header().Set("Content-Type", "application/json")
	json.NewEncoder(response).Encode(ids)
}

func posted(handler http.HandlerFunc) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodPost {
			http.Error(response, "POST it", http.StatusMethodNotAllowed)
			return
		}
		handler(response, request)
	}
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
	if err != nil || len(key) == 0 {
		log.Fatal("WEBHOOK_SECRET is whsec_ and base64, as the sidecar has it")
	}
	s := &shop{
		sidecar: environment("WALNATSD_URL", "http://127.0.0.1:7521"), key: key, shipped: map[int]bool{},
		client: http.Client{Timeout: 20 * time.Second}, // above emit.timeout of the sidecar
	}
	http.HandleFunc("/healthz", func(response http.ResponseWriter, _ *http.Request) { response.WriteHeader(204) })
	http.HandleFunc("/parcels", s.parcels)
	http.HandleFunc("/orders", posted(s.place))
	http.HandleFunc("/ship", posted(s.ship))
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
