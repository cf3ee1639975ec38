// Package jsonwalk walks over the members of large JSON objects: headers,
// indexes and descriptions with a hundred thousand entries. The text must be
// UTF-8 that json.Valid accepts: that is what makes a walk so short, and several
// times as fast as a decoder's tokens. Duplicate keys are the caller's to find.
package jsonwalk
