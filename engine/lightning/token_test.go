package lightning

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestWorkerToken(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	text, err := workerToken("geheim-ä", "quick-brook", now)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return []byte("geheim-ä"), nil }, jwt.WithValidMethods([]string{"HS256"}))
	if err != nil || !token.Valid {
		t.Fatal(err)
	}
	if claims["worker_id"] != "quick-brook" || claims["iss"] != "urn:openfn:worker" || claims["iat"] != float64(1_700_000_000) || len(claims) != 3 {
		t.Errorf("claims %v", claims)
	}
}

func publicKey(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func TestRunTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good := func() jwt.MapClaims {
		return jwt.MapClaims{"iss": "Lightning", "id": "r", "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	}
	with := func(name string, v any) jwt.MapClaims {
		c := good()
		c[name] = v
		return c
	}
	for _, c := range []struct {
		name   string
		method jwt.SigningMethod
		claims jwt.MapClaims
		ok     bool
	}{
		{"good", jwt.SigningMethodRS256, good(), true},
		{"another issuer", jwt.SigningMethodRS256, with("iss", "Thunder"), false},
		{"a clock 4 s ahead", jwt.SigningMethodRS256, with("nbf", now.Add(4*time.Second).Unix()), true},
		{"a clock 20 s ahead", jwt.SigningMethodRS256, with("nbf", now.Add(20*time.Second).Unix()), false},
		{"expired long ago", jwt.SigningMethodRS256, with("exp", now.Add(-time.Hour).Unix()), false},
		{"unsigned", jwt.SigningMethodNone, good(), false},
		{"signed with the public key as a secret", jwt.SigningMethodHS256, good(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			encoded := publicKey(t, rsaKey.Public())
			var key any = rsaKey
			switch c.method {
			case jwt.SigningMethodNone:
				key = jwt.UnsafeAllowNoneSignatureType
			case jwt.SigningMethodHS256:
				text, err := base64.StdEncoding.DecodeString(encoded)
				if err != nil {
					t.Fatal(err)
				}
				key = text
			}
			text, err := jwt.NewWithClaims(c.method, c.claims).SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			checker, err := ParseRunKey(encoded)
			if err != nil {
				t.Fatal(err)
			}
			err = checker.verify(claimedRun{ID: "r", Token: text}, now)
			var refused *RunTokenError
			if c.ok != (err == nil) || err != nil && !errors.As(err, &refused) {
				t.Errorf("%v", err)
			}
			if err != nil && strings.Contains(err.Error(), text) {
				t.Error("the error holds the token")
			}
		})
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, good()).SignedString(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	checker, err := ParseRunKey(publicKey(t, ecKey.Public()))
	if err != nil {
		t.Fatal(err)
	}
	if err := checker.verify(claimedRun{ID: "r", Token: text}, now); err != nil {
		t.Error(err)
	}
	other, err := ParseRunKey(publicKey(t, rsaKey.Public()))
	if err != nil {
		t.Fatal(err)
	}
	if other.verify(claimedRun{ID: "r", Token: text}, now) == nil {
		t.Error("a token of another key passed")
	}
}

func TestParseRunKeyErrors(t *testing.T) {
	for in, want := range map[string]string{
		"%%": "not base64",
		base64.StdEncoding.EncodeToString([]byte("hello")):                                                              "no PEM block",
		base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("nothing")})): "cannot be read",
	} {
		if _, err := ParseRunKey(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
