// Package arm64 writes Go assembly with vector instructions for arm64.
//
// Go's assembler lacks most NEON instructions on floats, so every vector
// instruction is a WORD, encoded by the table in encode.go, with its mnemonic as
// a comment; control flow and addresses are instructions of Go's assembler. The
// test decodes with golang.org/x/arch all that the table can say, and every
// WORD of the files that are generated, and compares with the mnemonics.
//
// All encodings are ARMv8.0 (Arm ARM DDI 0487, C4.1 and C7.2).
package arm64
