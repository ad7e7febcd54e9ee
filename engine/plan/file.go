package plan

import "reflect"

// The shapes of a file, as the schema describes them. A field holds the value
// of the key in its tag, nil when the key is absent or null. The names are
// compared with the schema's by a test; a field that nothing reads is a key
// that is accepted and ignored.

type filePlan struct {
	Schema   *node `key:"$schema"`
	ID       *node `key:"id"`
	Options  *node `key:"options"`
	Workflow *node `key:"workflow"`
}

type fileShort struct {
	Schema      *node `key:"$schema"`
	ID          *node `key:"id"`
	Name        *node `key:"name"`
	Options     *node `key:"options"`
	Steps       *node `key:"steps"`
	Start       *node `key:"start"`
	Globals     *node `key:"globals"`
	Credentials *node `key:"credentials"`
}

type fileWorkflow struct {
	ID            *node `key:"id"`
	Name          *node `key:"name"`
	Steps         *node `key:"steps"`
	Start         *node `key:"start"`
	Globals       *node `key:"globals"`
	Credentials   *node `key:"credentials"`
	SchemaVersion *node `key:"schema_version"`
	OpenFn        *node `key:"openfn"`
}

type fileOptions struct {
	Start         *node `key:"start"`
	End           *node `key:"end"`
	Timeout       *node `key:"timeout"`
	StepTimeout   *node `key:"step_timeout"`
	StepTimeoutMS *node `key:"stepTimeout"`
	Memory        *node `key:"memory"`
	Concurrency   *node `key:"concurrency"`
	Sanitize      *node `key:"sanitize"`
	DropKeys      *node `key:"drop_keys"`
	PropsToRemove *node `key:"statePropsToRemove"`
	Node          *node `key:"node"`
	Python        *node `key:"python"`
	Reuse         *node `key:"reuse"`
	MaxIterations *node `key:"max_iterations"`
	MaxCallDepth  *node `key:"max_call_depth"`
}

type fileStep struct {
	ID            *node `key:"id"`
	Name          *node `key:"name"`
	Expression    *node `key:"expression"`
	Adaptor       *node `key:"adaptor"`
	Adaptors      *node `key:"adaptors"`
	Linker        *node `key:"linker"`
	Command       *node `key:"command"`
	Stdin         *node `key:"stdin"`
	Stdout        *node `key:"stdout"`
	StateFD       *node `key:"state_fd"`
	Env           *node `key:"env"`
	Cwd           *node `key:"cwd"`
	Worker        *node `key:"worker"`
	Function      *node `key:"function"`
	Python        *node `key:"python"`
	Source        *node `key:"source"`
	Configuration *node `key:"configuration"`
	State         *node `key:"state"`
	Next          *node `key:"next"`
	Concurrency   *node `key:"concurrency"`
	Timeout       *node `key:"timeout"`
	Memory        *node `key:"memory"`
	Retry         *node `key:"retry"`
	Reuse         *node `key:"reuse"`
	Process       *node `key:"process"`
	Reserve       *node `key:"reserve"`
	MaxDemand     *node `key:"max_demand"`
	MinDemand     *node `key:"min_demand"`
	Demand        *node `key:"demand"`

	Previous        *node `key:"previous"`
	SourceMap       *node `key:"sourceMap"`
	OpenFn          *node `key:"openfn"`
	Type            *node `key:"type"`
	Enabled         *node `key:"enabled"`
	CronExpression  *node `key:"cron_expression"`
	CronCursorJobID *node `key:"cron_cursor_job_id"`
	CustomPath      *node `key:"custom_path"`
	WebhookReply    *node `key:"webhook_reply"`
	WebhookResponse *node `key:"webhook_response_config"`
}

type fileEdge struct {
	Condition *node `key:"condition"`
	Label     *node `key:"label"`
	Disabled  *node `key:"disabled"`
	OpenFn    *node `key:"openfn"`
}

type fileRetry struct {
	Attempts   *node `key:"attempts"`
	Backoff    *node `key:"backoff"`
	MaxBackoff *node `key:"max_backoff"`
	Jitter     *node `key:"jitter"`
}

type fileStdin struct {
	Key    *node `key:"key"`
	Stream *node `key:"stream"`
}

type fileStdout struct {
	Key      *node `key:"key"`
	Stream   *node `key:"stream"`
	Encoding *node `key:"encoding"`
}

type fileModule struct {
	Path    *node `key:"path"`
	Version *node `key:"version"`
}

// bind fills the fields of a shape from an object; from anything else, which
// the schema has reported, it fills nothing.
func bind[T any](n *node) T {
	var shape T
	v := reflect.ValueOf(&shape).Elem()
	for i := range v.NumField() {
		if value := n.get(v.Type().Field(i).Tag.Get("key")); value != nil && value.kind != isNull {
			v.Field(i).Set(reflect.ValueOf(value))
		}
	}
	return shape
}

type fileSource struct {
	File      *node `key:"file"`
	Files     *node `key:"files"`
	Dir       *node `key:"dir"`
	Format    *node `key:"format"`
	Batch     *node `key:"batch"`
	Key       *node `key:"key"`
	Encoding  *node `key:"encoding"`
	OnError   *node `key:"on_error"`
	Delimiter *node `key:"delimiter"`
	Columns   *node `key:"columns"`
	Types     *node `key:"types"`
}
