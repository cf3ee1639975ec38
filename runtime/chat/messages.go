package chat

import "fmt"

// Message returns a message of plain text.
func Message(role, content string) *Object { return NewObject("role", role, "content", content) }

// ParseMessages reads a JSON list of messages, or an object with a list at "messages".
func ParseMessages(data []byte) ([]*Object, error) {
	list, err := objects(data, "messages")
	if err != nil {
		return nil, err
	}
	for i, m := range list {
		switch m.Text("role") {
		case "system", "user", "assistant", "tool", "observation", "developer":
		default:
			return nil, fmt.Errorf("%w: messages[%d]: role %q is none of system, user, assistant, tool", ErrInvalid, i, m.Text("role"))
		}
		if m.Get("tool_calls") != nil {
			if _, ok := m.Get("tool_calls").([]any); !ok {
				return nil, fmt.Errorf("%w: messages[%d]: tool_calls is not a list", ErrInvalid, i)
			}
		}
	}
	return list, nil
}

// ParseTools reads a JSON list of tools, or an object with a list at "tools".
func ParseTools(data []byte) ([]*Object, error) { return objects(data, "tools") }

func objects(data []byte, key string) ([]*Object, error) {
	v, err := ParseJSON(data)
	if err != nil {
		return nil, err
	}
	if o, ok := v.(*Object); ok {
		v = o.Get(key)
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%w: expected a JSON list of %s", ErrInvalid, key)
	}
	out := make([]*Object, len(list))
	for i := range list {
		if out[i], ok = list[i].(*Object); !ok {
			return nil, fmt.Errorf("%w: %s[%d] is not an object", ErrInvalid, key, i)
		}
	}
	return out, nil
}
