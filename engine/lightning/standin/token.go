package standin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// workerIssuer is the issuer that a worker's token names.
const workerIssuer = "urn:openfn:worker"

// runIssuer is the issuer that a run's token names.
const runIssuer = "Lightning"

// runTokenLife is how long a run's token is valid by default.
const runTokenLife = time.Hour

// signer makes run tokens.
type signer struct {
	method jwt.SigningMethod
	key    any
	public string // base64 of PEM
}

func newSigner(useRSA bool) (*signer, error) {
	var (
		s      signer
		public any
	)
	if useRSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		s.method, s.key, public = jwt.SigningMethodRS256, key, key.Public()
	} else {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		s.method, s.key, public = jwt.SigningMethodES256, key, key.Public()
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	s.public = base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return &s, nil
}

func (s *signer) token(run string, now time.Time, life time.Duration) (string, error) {
	return jwt.NewWithClaims(s.method, jwt.MapClaims{
		"iss": runIssuer, "sub": "run:" + run, "id": run, "aud": workerIssuer,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix(),
	}).SignedString(s.key)
}

// errSignature is a worker token that was not signed with the secret.
var errSignature = errors.New("the worker's token is not signed with the server's secret")

// checkWorkerToken returns the worker's id. errSignature refuses the socket;
// another error is a violation.
func checkWorkerToken(token, secret string) (worker string, err error) {
	claims := jwt.MapClaims{}
	parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithoutClaimsValidation()).
		ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return []byte(secret), nil })
	if err != nil || !parsed.Valid {
		return "", errSignature
	}
	worker, _ = claims["worker_id"].(string)
	if worker == "" {
		return "", errors.New("the worker's token has no worker_id")
	}
	if claims["iss"] != workerIssuer {
		return worker, fmt.Errorf("the worker's token has iss %v: it must be %s", claims["iss"], workerIssuer)
	}
	if _, ok := claims["iat"].(float64); !ok {
		return worker, fmt.Errorf("the worker's token has iat %v: it must be a number", claims["iat"])
	}
	if claims["exp"] != nil {
		return worker, errors.New("the worker's token expires: it must not")
	}
	return worker, nil
}

func randomSecret() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // it never fails: crypto/rand's own guarantee
	return base64.RawURLEncoding.EncodeToString(b)
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
