package lightning

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	workerIssuer = "urn:openfn:worker"
	runIssuer    = "Lightning"
	// clockTolerance is how far Lightning's clock may be from this host's.
	clockTolerance = 5 * time.Second
)

// workerToken is how the worker proves that it knows the secret. It does not
// expire.
func workerToken(secret, workerID string, now time.Time) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"worker_id": workerID, "iat": now.Unix(), "iss": workerIssuer,
	}).SignedString([]byte(secret))
}

// RunKey checks that runs come from Lightning.
type RunKey struct {
	key     crypto.PublicKey
	methods []string
}

// ParseRunKey reads the public key that Lightning is configured with: PEM text
// in base64.
func ParseRunKey(s string) (*RunKey, error) {
	text, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("the public key is not base64: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the public key has no PEM block in its base64")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		rsaKey, rsaErr := x509.ParsePKCS1PublicKey(block.Bytes)
		if rsaErr != nil {
			return nil, fmt.Errorf("the public key cannot be read: %w", err)
		}
		key = rsaKey
	}
	switch key.(type) {
	case *rsa.PublicKey:
		return &RunKey{key, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}}, nil
	case *ecdsa.PublicKey:
		return &RunKey{key, []string{"ES256", "ES384", "ES512"}}, nil
	case ed25519.PublicKey:
		return &RunKey{key, []string{"EdDSA"}}, nil
	}
	return nil, fmt.Errorf("the public key is of a kind that signs no tokens (%T)", key)
}

// RunTokenError is a run whose token was not made by Lightning: somebody else
// answers the worker's claims, or its key is out of date.
type RunTokenError struct {
	Run string
	Err error
}

// Error implements error. It does not hold the token.
func (e *RunTokenError) Error() string {
	return fmt.Sprintf("run %s: its token is not one of Lightning's: %v", e.Run, e.Err)
}

// Unwrap returns the cause.
func (e *RunTokenError) Unwrap() error { return e.Err }

// verify checks a run's token. The methods allowed are the key's own: a token
// cannot choose how it is checked.
func (k *RunKey) verify(run claimedRun, now time.Time) error {
	_, err := jwt.Parse(run.Token, func(*jwt.Token) (any, error) { return k.key, nil },
		jwt.WithValidMethods(k.methods), jwt.WithIssuer(runIssuer), jwt.WithLeeway(clockTolerance),
		jwt.WithTimeFunc(func() time.Time { return now }))
	if err != nil {
		return &RunTokenError{Run: run.ID, Err: err}
	}
	return nil
}
