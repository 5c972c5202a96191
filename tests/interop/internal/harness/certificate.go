package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs a server's certificates and is trusted by nobody but the people
// and agents of its test.
type Authority struct {
	// File is the authority's certificate, for SSL_CERT_FILE.
	File string

	t          testing.TB
	dir        string
	key        *ecdsa.PrivateKey
	self       *x509.Certificate
	serial     int64
	transport  *http.Transport
	cert, priv string
}

// NewAuthority makes one and the first certificate of a server.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir(), key: newKey(t)}
	a.File = filepath.Join(a.dir, "ca.pem")
	a.cert, a.priv = filepath.Join(a.dir, "cert.pem"), filepath.Join(a.dir, "key.pem")
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Interop test authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatalf("make an authority: %v", err)
	}
	if a.self, err = x509.ParseCertificate(der); err != nil {
		t.Fatalf("make an authority: %v", err)
	}
	a.write(a.File, "CERTIFICATE", der)
	roots := x509.NewCertPool()
	roots.AddCert(a.self)
	a.transport = &http.Transport{
		// Each request sees the certificate of its time.
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
	}
	a.Renew()
	return a
}

// Args tell a server to use the certificate.
func (a *Authority) Args() []string {
	return []string{"--tls-cert", a.cert, "--tls-key", a.priv}
}

// Renew writes a new certificate, for 127.0.0.1 and the names, and returns its
// serial number.
func (a *Authority) Renew(names ...string) int64 {
	a.t.Helper()
	a.serial++
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1000 + a.serial),
		Subject:      pkix.Name{CommonName: "moorline"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(23 * time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     append([]string{"localhost"}, names...),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.self, key.Public(), a.key)
	if err != nil {
		a.t.Fatalf("make a certificate: %v", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatalf("make a certificate: %v", err)
	}
	a.write(a.priv, "PRIVATE KEY", private)
	a.write(a.cert, "CERTIFICATE", der)
	return 1000 + a.serial
}

// Spoil overwrites the certificate with something that is none.
func (a *Authority) Spoil() {
	a.t.Helper()
	a.write(a.cert, "CERTIFICATE", []byte("this is no certificate"))
}

// Serial is the serial number that a new connection to address is shown.
func (a *Authority) Serial(address string) int64 {
	a.t.Helper()
	conn, err := tls.Dial("tcp", address, a.transport.TLSClientConfig)
	if err != nil {
		a.t.Fatalf("TLS: %v", err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func (a *Authority) write(path, kind string, der []byte) {
	a.t.Helper()
	// Under another name first, as renewal programs do: nobody sees half a file.
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	err := os.WriteFile(path+".new", text, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		a.t.Fatalf("write %s: %v", path, err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	return key
}

// trusting is the environment by which programs trust the server's authority.
func (s *Server) trusting() []string {
	if s.trust == nil {
		return nil
	}
	return []string{"SSL_CERT_FILE=" + s.trust.File}
}
