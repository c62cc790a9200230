package dockerfile

// Run is an instruction that is a RUN to kaniko.
type Run struct {
	Line   int    // in the source; the FROM's for one that an ONBUILD brings along
	Text   string // on one line; of a RUN what follows the word and its flags
	As     string // what follows RUN and its flags in kaniko's Dockerfile
	Copies bool   // it is a COPY or an ADD, or keeps what a later one copies
	Keeps  bool   // it keeps what a later one copies
	// Operations are the instructions that it carries out as operations.
	Operations []string
}
