package chat

import "strings"

// Item is a picture or clip of a conversation.
type Item struct {
	Video  bool
	Source string // what the message names: a path or address, "" if nothing
}

// Media lists the pictures and clips of messages in order: content parts of
// type image, image_url, video and video_url, as transformers and the OpenAI
// interface write them.
func Media(messages []*Object) (items []Item) {
	for _, m := range messages {
		parts, _ := m.Get("content").([]any)
		for _, p := range parts {
			part, ok := p.(*Object)
			if !ok {
				continue
			}
			kind := strings.TrimSuffix(part.Text("type"), "_url")
			if kind == "image" || kind == "video" {
				items = append(items, Item{kind == "video", source(part, kind)})
			}
		}
	}
	return items
}

// source is the path or address of a content part.
func source(part *Object, kind string) string {
	for _, key := range []string{kind + "_url", kind, "path", "url"} {
		switch v := part.Get(key).(type) {
		case string:
			return v
		case *Object:
			return v.Text("url")
		}
	}
	return ""
}

// UserMessage is a question with n pictures and m clips in front of it.
func UserMessage(n, m int, text string) *Object {
	if n+m == 0 {
		return Message("user", text)
	}
	var parts []any
	for range n {
		parts = append(parts, NewObject("type", "image"))
	}
	for range m {
		parts = append(parts, NewObject("type", "video"))
	}
	return NewObject("role", "user", "content", append(parts, NewObject("type", "text", "text", text)))
}
