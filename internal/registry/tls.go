package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Certificates are what TLS takes to reach registries, as kaniko's
// --registry-certificate and --registry-client-cert have it. Files are those of
// one folder.
type Certificates struct {
	Folder string   // "" where there is none
	Known  []string // "host[:port]=file": signers of the registry's certificate, besides the system's
	Client []string // "host[:port]=file,file": the certificate that the registry asks for, and its key
}

// configs are TLS configurations by host. The error names the option.
func (c Certificates) configs() (map[string]*tls.Config, error) {
	configs := map[string]*tls.Config{}
	of := func(host string) *tls.Config {
		if configs[host] == nil {
			configs[host] = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		return configs[host]
	}
	for _, entry := range c.Known {
		host, file, err := hostAndFile(entry)
		if err != nil {
			return nil, fmt.Errorf("registry-certificates: %q %w", entry, err)
		}
		content, err := c.read(file)
		if err != nil {
			return nil, fmt.Errorf("registry-certificates: %q: %w", entry, err)
		}
		config := of(host)
		if config.RootCAs == nil {
			if config.RootCAs, err = x509.SystemCertPool(); err != nil {
				config.RootCAs = x509.NewCertPool()
			}
		}
		if !config.RootCAs.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("registry-certificates: %q: the file has no certificate in PEM", entry)
		}
	}
	for _, entry := range c.Client {
		host, files, err := hostAndFile(entry)
		if err != nil {
			return nil, fmt.Errorf("registry-client-certs: %q %w", entry, err)
		}
		certFile, keyFile, ok := strings.Cut(files, ",")
		if !ok {
			return nil, fmt.Errorf("registry-client-certs: %q is not HOST[:PORT]=CERTIFICATE,KEY", entry)
		}
		cert, err := c.read(certFile)
		if err != nil {
			return nil, fmt.Errorf("registry-client-certs: %q: %w", entry, err)
		}
		key, err := c.read(keyFile)
		if err != nil {
			return nil, fmt.Errorf("registry-client-certs: %q: %w", entry, err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("registry-client-certs: %q: %w", entry, err)
		}
		of(host).Certificates = append(of(host).Certificates, pair)
	}
	return configs, nil
}

func hostAndFile(entry string) (host, file string, err error) {
	host, file, ok := strings.Cut(entry, "=")
	if ok {
		_, err = name.NewRegistry(host)
	}
	if !ok || err != nil || file == "" {
		return "", "", errors.New("is not HOST[:PORT]=FILE")
	}
	return host, file, nil
}

// read takes a file of the folder. A secret's are links.
func (c Certificates) read(file string) ([]byte, error) {
	if c.Folder == "" {
		return nil, errors.New("the workspace certificates, which has the file, is not bound")
	}
	if file != filepath.Base(file) || !filepath.IsLocal(file) {
		return nil, fmt.Errorf("%s is not the name of a file of the workspace certificates", file)
	}
	content, err := os.ReadFile(filepath.Join(c.Folder, file))
	if err != nil {
		return nil, fmt.Errorf("workspace certificates: %w", err)
	}
	return content, nil
}

// transports are those of the hosts that need one of their own.
func (o Options) transports() (map[string]http.RoundTripper, error) {
	configs, err := o.Certificates.configs()
	if err != nil {
		return nil, err
	}
	for _, host := range o.SkipTLSVerify {
		if configs[host] == nil {
			configs[host] = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		configs[host].InsecureSkipVerify = true // asked for by name, for these hosts only
	}
	transports := map[string]http.RoundTripper{}
	for host, config := range configs {
		transport := remote.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = config
		transports[host] = transport
	}
	return transports, nil
}
