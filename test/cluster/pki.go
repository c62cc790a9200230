package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// The cluster's keys and certificates, made anew for each cluster.
const (
	pkiDir            = StateDir + "/pki"
	caFile            = pkiDir + "/ca.crt"
	apiserverCert     = pkiDir + "/apiserver.crt"
	apiserverKey      = pkiDir + "/apiserver.key"
	adminCert         = pkiDir + "/admin.crt"
	adminKey          = pkiDir + "/admin.key"
	serviceAccountKey = pkiDir + "/service-accounts.key"
)

// makePKI writes a CA, the API server's certificate, the administrator's (whom
// every component acts as: this cluster tests Slipway, not Kubernetes) and the
// key that service-account tokens are signed with.
func makePKI() error {
	if err := os.MkdirAll(pkiDir, 0o700); err != nil {
		return err
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "slipway-cluster"}, caKey)
	if err != nil {
		return err
	}
	if err := cert.WriteCert(caFile, encodeCert(ca.Raw)); err != nil {
		return err
	}
	issue := func(template *x509.Certificate, certFile, keyFile string) error {
		key, err := writeKey(keyFile)
		if err != nil {
			return err
		}
		template.SerialNumber = big.NewInt(time.Now().UnixNano())
		template.NotBefore = ca.NotBefore
		template.NotAfter = time.Now().AddDate(1, 0, 0)
		template.KeyUsage = x509.KeyUsageDigitalSignature
		der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
		if err != nil {
			return fmt.Errorf("issue %s: %w", filepath.Base(certFile), err)
		}
		return cert.WriteCert(certFile, encodeCert(der))
	}
	if err := issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		IPAddresses: []net.IP{net.ParseIP(NodeIP), net.ParseIP(apiserverIP), net.IPv4(127, 0, 0, 1)},
	}, apiserverCert, apiserverKey); err != nil {
		return err
	}
	if err := issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, adminCert, adminKey); err != nil {
		return err
	}
	_, err = writeKey(serviceAccountKey)
	return err
}

func writeKey(file string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	encoded, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	return key, keyutil.WriteKey(file, encoded)
}

func encodeCert(der []byte) []byte {
	encoded, err := cert.EncodeCertificates(&x509.Certificate{Raw: der})
	if err != nil {
		// Encoding to memory does not fail.
		panic(err)
	}
	return encoded
}

func writeKubeconfig() error {
	config := clientcmdapi.NewConfig()
	config.Clusters["slipway"] = &clientcmdapi.Cluster{Server: apiserver, CertificateAuthority: caFile}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificate: adminCert, ClientKey: adminKey}
	config.Contexts["slipway"] = &clientcmdapi.Context{Cluster: "slipway", AuthInfo: "admin"}
	config.CurrentContext = "slipway"
	return clientcmd.WriteToFile(*config, Kubeconfig)
}

// clusterTLS trusts the cluster's CA and is its administrator. Before there is
// a cluster it trusts nobody.
func clusterTLS() *tls.Config {
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if ca, err := cert.CertsFromFile(caFile); err == nil {
		config.RootCAs.AddCert(ca[0])
	}
	if admin, err := tls.LoadX509KeyPair(adminCert, adminKey); err == nil {
		config.Certificates = []tls.Certificate{admin}
	}
	return config
}
