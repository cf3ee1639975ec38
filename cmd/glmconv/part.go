package main

import (
	"os"
	"strconv"

	"github.com/urfave/cli/v2"
)

// partOf reads --index and --count: part I of N, 0 and 0 for the whole.
func partOf(c *cli.Context) (index, count int, err error) {
	count = c.Int("count")
	if c.String("index") == "auto" {
		return partFromEnvironment(os.LookupEnv, c.IsSet("count"), count)
	}
	if c.IsSet("index") != c.IsSet("count") {
		return 0, 0, usagef("--index and --count belong together: --index 1 --count 4 is the first of four parts")
	}
	if !c.IsSet("index") {
		return 0, 0, nil
	}
	if index, err = strconv.Atoi(c.String("index")); err != nil {
		return 0, 0, usagef("--index must be a number from 1, or auto, not %q", c.String("index"))
	}
	return index, count, nil
}

// partFromEnvironment takes the part from what runs this process: a task of a
// Slurm array, or a pod of an indexed job of Kubernetes.
func partFromEnvironment(lookup func(string) (string, bool), counted bool, count int) (index, n int, err error) {
	number := func(name string, otherwise int) int {
		text, ok := lookup(name)
		if !ok {
			return otherwise
		}
		v, aerr := strconv.Atoi(text)
		if aerr != nil && err == nil {
			err = usagef("%s is %q, not a number", name, text)
		}
		return v
	}
	_, slurm := lookup("SLURM_ARRAY_TASK_ID")
	_, pod := lookup("JOB_COMPLETION_INDEX")
	n = count
	if slurm {
		step := max(number("SLURM_ARRAY_TASK_STEP", 1), 1)
		index = (number("SLURM_ARRAY_TASK_ID", 0)-number("SLURM_ARRAY_TASK_MIN", 1))/step + 1
		n = number("SLURM_ARRAY_TASK_COUNT", count)
		if counted && n != count {
			return 0, 0, usagef("--count is %d, and the Slurm array has %d tasks", count, n)
		}
	}
	if pod {
		i := number("JOB_COMPLETION_INDEX", 0) + 1
		if slurm && i != index {
			return 0, 0, usagef("--index auto: SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX name different parts")
		}
		index = i
	}
	switch {
	case err != nil:
		return 0, 0, err
	case !slurm && !pod:
		return 0, 0, usagef("--index auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set")
	case n < 1:
		return 0, 0, usagef("--index auto needs --count here")
	}
	return index, n, nil
}
