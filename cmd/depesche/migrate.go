package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"depesche/migrations"
)

func (a *app) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date",
		Long: `Brings the schema up to this binary's. An empty database needs no such command: the first command that opens it sets it up.
Make a backup first.`,
		Example: `  depesche migrate --config /etc/depesche/depesche.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := LoadConfig(a.configPath, a.environ)
			if err != nil {
				return err
			}
			db, err := migrations.Open(c.Context(), string(config.Database))
			if err != nil {
				return err
			}
			from, err := db.Migrate(c.Context())
			if err := errors.Join(err, db.Close()); err != nil {
				if errors.Is(err, migrations.ErrOldBinary) {
					return usageError(err)
				}
				return err
			}
			fmt.Fprintf(a.stdout, "schema: was at version %d, is at %d\n", from, migrations.Version)
			return nil
		},
	}
}
