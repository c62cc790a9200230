package registry_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	stdlog "log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	server "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/slipway-ci/slipway/internal/registry"
)

// clientPair is a certificate that signs itself, and its key, in PEM.
func clientPair(t *testing.T) (certificate *x509.Certificate, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "robot"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, inPEM("CERTIFICATE", der), inPEM("EC PRIVATE KEY", keyDER)
}

func inPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// A registry whose certificate a signer of one's own has signed, and which asks
// for one.
func TestCertificates(t *testing.T) {
	t.Parallel()
	robot, cert, key := clientPair(t)
	known := x509.NewCertPool()
	known.AddCert(robot)
	s := httptest.NewUnstartedServer(server.New(server.Logger(stdlog.New(io.Discard, "", 0))))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known}
	s.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	tag, err := name.NewTag(strings.TrimPrefix(s.URL, "https://") + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	host := tag.RegistryStr()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ca.crt"), inPEM("CERTIFICATE", s.Certificate().Raw))
	write(t, filepath.Join(dir, "robot.crt"), cert)
	write(t, filepath.Join(dir, "robot.key"), key)
	img, err := random.Image(16, 1)
	if err != nil {
		t.Fatal(err)
	}

	both := registry.Certificates{Folder: dir, Known: []string{host + "=ca.crt"}, Client: []string{host + "=robot.crt,robot.key"}}
	if err := client(t, registry.Options{Certificates: both}).Push(t.Context(), tag, img, nil); err != nil {
		t.Error(err)
	}
	unverified := registry.Certificates{Folder: dir, Client: both.Client}
	if err := client(t, registry.Options{Certificates: unverified, SkipTLSVerify: []string{host}}).Push(t.Context(), tag, img, nil); err != nil {
		t.Error(err)
	}
	err = client(t, registry.Options{}).Push(t.Context(), tag, img, nil)
	want := "registry " + host + " has a certificate of an unknown signer: name the signer's in the param registry-certificates"
	if !errors.Is(err, registry.ErrRejected) || err.Error() != want {
		t.Errorf("without the signer: got %v, want %s", err, want)
	}
	noClient := registry.Certificates{Folder: dir, Known: both.Known}
	if err := client(t, registry.Options{Certificates: noClient}).Push(t.Context(), tag, img, nil); err == nil {
		t.Error("pushed without the certificate that the registry asks for")
	}
	elsewhere := registry.Certificates{Folder: dir, Known: []string{"other.example=ca.crt"}, Client: []string{"other.example=robot.crt,robot.key"}}
	if err := client(t, registry.Options{Certificates: elsewhere}).Push(t.Context(), tag, img, nil); err == nil {
		t.Error("what is for another registry was used")
	}
}

func TestBadCertificatesAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, cert, key := clientPair(t)
	write(t, filepath.Join(dir, "tls.crt"), cert)
	write(t, filepath.Join(dir, "tls.key"), key)
	write(t, filepath.Join(dir, "text"), "secret-word")
	for want, c := range map[string]registry.Certificates{
		`registry-certificates: "ca.crt" is not HOST[:PORT]=FILE`:                                                       {Folder: dir, Known: []string{"ca.crt"}},
		`registry-certificates: "a/b=ca.crt" is not HOST[:PORT]=FILE`:                                                   {Folder: dir, Known: []string{"a/b=ca.crt"}},
		`registry-certificates: "h=../x": ../x is not the name of a file of the workspace certificates`:                 {Folder: dir, Known: []string{"h=../x"}},
		`registry-certificates: "h=..": .. is not the name`:                                                             {Folder: dir, Known: []string{"h=.."}},
		`registry-certificates: "h=absent": workspace certificates: open ` + dir + `/absent: no such file or directory`: {Folder: dir, Known: []string{"h=absent"}},
		`registry-certificates: "h=text": the file has no certificate in PEM`:                                           {Folder: dir, Known: []string{"h=text"}},
		`registry-certificates: "h=tls.crt": the workspace certificates, which has the file, is not bound`:              {Known: []string{"h=tls.crt"}},
		`registry-client-certs: "h=tls.crt" is not HOST[:PORT]=CERTIFICATE,KEY`:                                         {Folder: dir, Client: []string{"h=tls.crt"}},
		`registry-client-certs: "h=tls.crt,text": tls: failed to find any PEM data in key input`:                        {Folder: dir, Client: []string{"h=tls.crt,text"}},
	} {
		_, err := registry.New(registry.Options{Certificates: c})
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for retries, want := range map[int]int32{0: 1, 1: 2} {
		var asked atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				asked.Add(1)
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		t.Cleanup(s.Close)
		host := strings.TrimPrefix(s.URL, "http://")
		if got, err := digestOf(t, client(t, registry.Options{Retries: retries}), host+"/app", amd64); err == nil || asked.Load() != want {
			t.Errorf("%d retries: asked %d times, %s, %v", retries, asked.Load(), got, err)
		}
	}
}
