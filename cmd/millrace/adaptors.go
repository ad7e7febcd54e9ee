package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

func adaptorsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adaptors",
		Short: "Install the OpenFn adaptors that JavaScript steps use",
	}
	var repo, node string
	install := &cobra.Command{
		Use:   "install WORKFLOW|ADAPTOR[@VERSION]...",
		Short: "Install adaptors from npm, those that a workflow names or those given",
		Long: `Install adaptors from npm into the adaptor folder: those that a workflow file
names, or those given as package names. What is installed already is left alone,
without asking the network. The folder has OpenFn's own layout, so it can be
shared with other OpenFn tools.`,
		Example: `  millrace adaptors install flow.yaml
  millrace adaptors install @openfn/language-http@7`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var specifiers []string
			for _, arg := range args {
				if _, err := os.Stat(arg); err != nil {
					specifiers = append(specifiers, arg)
					continue
				}
				p, err := plan.Load(arg, engine.PlanOptions())
				if err != nil {
					return usageError(err)
				}
				specifiers = append(specifiers, adaptorsOf(p)...)
			}
			if len(specifiers) == 0 {
				fmt.Fprintln(os.Stderr, "no adaptors are needed")
				return nil
			}
			if err := installAdaptors(node, repo, specifiers); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			return nil
		},
	}
	install.Flags().StringVar(&repo, "adaptor-repo", defaultAdaptorRepo(), "folder to install into")
	install.Flags().StringVar(&node, "node", "node", "Node.js binary")
	cmd.AddCommand(install)
	return cmd
}

// defaultAdaptorRepo is where adaptors are installed unless a flag says
// otherwise: the folder OpenFn's own tools are told by OPENFN_REPO_DIR, else one
// in the user's cache.
func defaultAdaptorRepo() string {
	if dir := os.Getenv("OPENFN_REPO_DIR"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "millrace", "adaptors")
}

// adaptorsOf returns the adaptors that a plan's steps name and that are not at
// a path of their own.
func adaptorsOf(p *plan.Plan) []string {
	var list []string
	for _, s := range p.Steps {
		if s.Expression == nil {
			continue
		}
		for _, a := range s.Expression.Adaptors {
			name, _, _ := strings.Cut(strings.TrimPrefix(a, "@"), "@")
			if strings.HasPrefix(a, "@") {
				name = "@" + name
			}
			if m := s.Expression.Linker[name]; m.Path == "" && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return list
}

// installAdaptors has those that are missing installed. It says what it does on
// standard error.
func installAdaptors(node, repo string, specifiers []string) error {
	repo, err := filepath.Abs(repo)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(repo, 0o755); err != nil {
		return fmt.Errorf("the adaptor folder: %w", err)
	}
	tool := engine.FindExecutor("MILLRACE_ADAPTORS_TOOL", "node/bin/millrace-adaptors.js")
	cmd := exec.Command(node, append([]string{tool, "install", "--repo-dir", repo}, specifiers...)...)
	var output strings.Builder
	cmd.Stderr = &output
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(strings.TrimSpace(output.String()))
		}
		return fmt.Errorf("cannot install adaptors (%s): %w", strings.Join(specifiers, ", "), err)
	}
	fmt.Fprint(os.Stderr, output.String())
	return nil
}
