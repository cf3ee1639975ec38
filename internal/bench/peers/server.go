package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// server is a peer's driver that stays: one JSON object a line each way. Its
// first line says that it is ready and what it is.
type server struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log bytes.Buffer
}

// start starts a driver and decodes its first line into hello.
func start(hello any, env []string, name string, args ...string) (*server, error) {
	s := &server{cmd: exec.Command(name, args...)}
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stderr = &s.log
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.read(hello); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *server) read(v any) error {
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		// A signal says more than the last line of the log.
		var exit *exec.ExitError
		if err := s.cmd.Wait(); errors.As(err, &exit) && !exit.Exited() {
			return fmt.Errorf("the driver ended: %w", err)
		}
		return fmt.Errorf("the driver ended: %s", lastError(s.log.String()))
	}
	return json.Unmarshal(line, v)
}

// seconds asks for one measurement.
func (s *server) seconds(request any) (time.Duration, error) {
	b, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	if _, err := s.in.Write(append(b, '\n')); err != nil {
		return 0, fmt.Errorf("the driver ended: %s", lastError(s.log.String()))
	}
	var answer struct {
		Seconds float64 `json:"seconds"`
		Error   string  `json:"error"`
	}
	if err := s.read(&answer); err != nil {
		return 0, err
	}
	if answer.Error != "" {
		return 0, errors.New(answer.Error)
	}
	return time.Duration(answer.Seconds * 1e9), nil
}

// close ends the driver by closing its standard input.
func (s *server) close() error {
	_ = s.in.Close()
	done := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-done
	}
	return nil
}
