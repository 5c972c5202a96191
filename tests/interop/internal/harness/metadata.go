package harness

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mozilla.org/pkcs7"
)

// Cloud is what a machine sees of its cloud: a metadata service with keys of its
// own, which answers as the real ones do.
type Cloud struct {
	// Auth is the agent's CODER_AGENT_AUTH.
	Auth string
	// Flag binds an agent to a machine of this cloud.
	Flag string
	// ID is the machine's.
	ID string
	// Asked counts the documents that were handed out.
	Asked atomic.Int64

	// Between makes the certificate between root and signer, good until then; only
	// of NewAzureBelow.
	Between func(until time.Time) string

	anchor string
	role   []string
	env    func(address string) []string
	t      testing.TB
	server *httptest.Server
}

// Env is what the agent on the machine is started with. It has no token. Requests
// to 169.254.169.254 go to the metadata service as if that were a proxy.
func (c *Cloud) Env() []string {
	return append([]string{"CODER_AGENT_AUTH=" + c.Auth, "CODER_AGENT_TOKEN="}, c.env(c.server.Listener.Addr().String())...)
}

// Import makes the server trust this cloud.
func (c *Cloud) Import(s *Server) {
	c.t.Helper()
	c.ImportText(s, c.anchor, c.role...)
}

// ImportText makes the server trust other anchors of this cloud; args are more
// flags.
func (c *Cloud) ImportText(s *Server, text string, args ...string) {
	c.t.Helper()
	path := s.Scratch("anchor-" + c.Auth)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	s.Trust(path, args...)
}

func (c *Cloud) serve(handler http.Handler) *Cloud {
	c.server = httptest.NewServer(handler)
	c.t.Cleanup(c.server.Close)
	return c
}

func (c *Cloud) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func asProxy(address string) []string {
	return []string{"HTTP_PROXY=http://" + address}
}

func newRSAKey(t testing.TB) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificate(t testing.TB, template, parent *x509.Certificate, public any, key any) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func asPEM(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func signed(t testing.TB, key *rsa.PrivateKey, text []byte) []byte {
	hash := sha256.Sum256(text)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// NewAWS is Amazon's metadata service of version 2: a token first.
func NewAWS(t testing.TB) *Cloud {
	key := newRSAKey(t)
	// A container for a key, of which nothing else counts: it has ended, too.
	template := &x509.Certificate{SerialNumber: big.NewInt(2022), NotAfter: time.Now().Add(-time.Hour)}
	cert := certificate(t, template, template, &key.PublicKey, key)
	c := &Cloud{
		Auth: "aws-instance-identity", Flag: "--aws-instance-id", ID: "i-0123456789abcdef0",
		anchor: asPEM(cert), role: []string{"--role", "aws", "--name", "other"}, env: asProxy, t: t,
	}
	document := fmt.Sprintf("{\n  \"accountId\" : \"123456789012\",\n  \"instanceId\" : \"%s\",\n  \"region\" : \"eu-test-1\"\n}", c.ID)
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
			http.Error(w, "no time to live", http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte("AQAEAtest=="))
	})
	part := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-aws-ec2-metadata-token") != "AQAEAtest==" {
				http.Error(w, "<html>401 - Unauthorized</html>", http.StatusUnauthorized)
				return
			}
			_, _ = w.Write([]byte(text))
		}
	}
	// The real one breaks the lines.
	text := base64.StdEncoding.EncodeToString(signed(t, key, []byte(document)))
	mux.HandleFunc("GET /latest/dynamic/instance-identity/signature", part(text[:76]+"\n"+text[76:]))
	mux.HandleFunc("GET /latest/dynamic/instance-identity/document", func(w http.ResponseWriter, r *http.Request) {
		c.Asked.Add(1)
		part(document)(w, r)
	})
	return c.serve(mux)
}

// NewAzure is Azure's. Its envelopes have signed attributes, which the real ones
// have not; the server's own tests make the others.
func NewAzure(t testing.TB) *Cloud {
	return newAzure(t, false)
}

// NewAzureBelow is Azure's with a certificate between root and signer, as in life.
func NewAzureBelow(t testing.TB) *Cloud {
	return newAzure(t, true)
}

func newAzure(t testing.TB, below bool) *Cloud {
	rootKey, key := newRSAKey(t), newRSAKey(t)
	until := time.Now().Add(24 * time.Hour)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	parent, parentKey := root, rootKey
	var between func(time.Time) string
	if below {
		parent, parentKey = &x509.Certificate{
			SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Test issuing CA 07"}, NotBefore: time.Now().Add(-1000 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}, newRSAKey(t)
		between = func(until time.Time) string {
			template := *parent
			template.NotAfter = until
			return asPEM(certificate(t, &template, root, &parentKey.PublicKey, rootKey))
		}
	}
	signer := certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "eastus.metadata.azure.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, parent, &key.PublicKey, parentKey)
	c := &Cloud{
		Between: between,
		Auth:    "azure-instance-identity", Flag: "--azure-vm-id", ID: "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
		anchor: asPEM(certificate(t, root, root, &rootKey.PublicKey, rootKey)), role: []string{"--role", "azure-root"}, env: asProxy, t: t,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metadata/attested/document", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" {
			http.Error(w, "no metadata header", http.StatusBadRequest)
			return
		}
		c.Asked.Add(1)
		stamp := func(at time.Time) string { return at.UTC().Format("01/02/06 15:04:05 -0000") }
		content, err := json.Marshal(map[string]any{
			"vmId": c.ID, "subscriptionId": "8d10da13", "sku": "",
			"timeStamp": map[string]string{"createdOn": stamp(time.Now()), "expiresOn": stamp(time.Now().Add(6 * time.Hour))},
		})
		c.must(err)
		data, err := pkcs7.NewSignedData(content)
		c.must(err)
		data.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
		c.must(data.AddSigner(signer, key, pkcs7.SignerInfoConfig{}))
		envelope, err := data.Finish()
		c.must(err)
		_ = json.NewEncoder(w).Encode(map[string]string{"encoding": "pkcs7", "signature": base64.StdEncoding.EncodeToString(envelope)})
	})
	return c.serve(mux)
}

// NewGoogle is Google's, whose address agents take from a variable.
func NewGoogle(t testing.TB) *Cloud {
	key := newRSAKey(t)
	encode := base64.RawURLEncoding.EncodeToString
	exponent := big.NewInt(int64(key.E)).Bytes()
	keys, err := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kid": "k1", "kty": "RSA", "alg": "RS256", "use": "sig", "n": encode(key.N.Bytes()), "e": encode(exponent)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := &Cloud{
		Auth: "google-instance-identity", Flag: "--google-instance-id", ID: "4520031799277581759", anchor: string(keys), t: t,
		env: func(address string) []string { return []string{"GCE_METADATA_HOST=" + address} },
	}
	return c.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" || !strings.HasSuffix(r.URL.Path, "/instance/service-accounts/default/identity") {
			http.NotFound(w, r)
			return
		}
		c.Asked.Add(1)
		claims := map[string]any{
			"iss": "https://accounts.google.com", "aud": r.URL.Query().Get("audience"),
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "sub": "1",
		}
		if r.URL.Query().Get("format") == "full" {
			claims["google"] = map[string]any{"compute_engine": map[string]string{"instance_id": c.ID, "project_id": "p", "zone": "z"}}
		}
		body, err := json.Marshal(claims)
		c.must(err)
		text := encode([]byte(`{"alg":"RS256","kid":"k1"}`)) + "." + encode(body)
		w.Header().Set("Metadata-Flavor", "Google")
		_, _ = w.Write([]byte(text + "." + encode(signed(c.t, key, []byte(text)))))
	}))
}
