-- The incremental build, after which a table holds what a whole build would give. On BigQuery it is one MERGE by id; on
-- DuckDB what the new rows of the raw tables add is appended (appended.sql).
-- What it must know is found while the model compiles, and kept in the first line of the compiled SQL.

{% macro should_full_refresh() %}
    {#- Overrides dbt's own, which the incremental materialization asks: small tables are built whole too. -#}
    {%- set asked = config.get('full_refresh') -%}
    {%- if asked is none -%}{%- set asked = flags.FULL_REFRESH -%}{%- endif -%}
    {%- if asked or not execute or config.get('materialized') != 'incremental' -%}
        {{ return(asked) }}
    {%- endif -%}
    {%- if model.get('compiled_code') -%}
        {#- decided when it compiled: a pruned query must never become the whole table, nor a whole one be appended -#}
        {{ return(merge_plan() is none) }}
    {%- endif -%}
    {%- if target.type != 'bigquery' -%}
        {{ return(seen_rows(model.name) is none) }}
    {%- endif -%}
    {#- metadata of tables, which BigQuery gives without a query -#}
    {%- set sizes = [] -%}
    {%- for relation in [source('raw', 'projects'), this] -%}
        {%- set table = adapter.get_bq_table(relation) -%}
        {%- do sizes.append((table.num_bytes or 0) if table else 0) -%}
    {%- endfor -%}
    {{ return((sizes | max) < (var('merge_above_mb', 1024) | int) * 1048576) }}
{% endmacro %}

{% macro merged(columns, joined) %}
    {#- Gives the model's query, cut to the changed days if it will be merged, or to what is new if that will be appended.
        `columns` are those that a change outside of `projects` can change: they alone are compared, since the others are
        not cheap to read. `joined` are the raw tables whose rows the query pairs, under their own names. -#}
    {%- if not is_incremental() -%}
        {{ caller('') }}
    {%- elif target.type != 'bigquery' -%}
        {%- set seen = seen_rows(model.name) -%}
        -- merge: {{ tojson({'seen': seen}) }}
        {%- for name in joined %}
        {{ 'union all' if not loop.first }}
        {{ caller(new_pairs(name, joined[:loop.index0], seen)) }}
        {%- endfor %}
    {%- else -%}
        {%- set plan = changes(caller(''), columns) -%}
        -- merge: {{ tojson(plan) }}
        {{ caller('' if plan.days is none else 'and (' ~ on_days('projects.created_on', plan.days) ~ ')') }}
    {%- endif -%}
{% endmacro %}

{% macro changes(query, columns) %}
    {#- Returns `days`, outside of which the table is what the query gives (none: any day), and `until`, the last change
        of `projects` that this has seen. Exact: with both days of each row that is new, gone, moved or tagged anew, the
        rest has the same ids on the same days, and a title cannot change without its partition's last_modified_time. -#}
    {%- set projects, days = source('raw', 'projects'), [] -%}
    {%- set partitioning = (adapter.get_bq_table(projects)).time_partitioning -%}
    {%- if not partitioning or partitioning.field != 'created_on' or partitioning.type_ not in ['DAY', 'HOUR'] -%}
        {{ return({'days': none, 'until': none}) }}
    {%- endif -%}
    {%- set since = (adapter.get_bq_table(this).labels or {}).get('merged_until') -%}
    {#- before the rows are read: what changes in between is found by the next merge -#}
    {%- set partitions -%}
        select partition_id, unix_micros(last_modified_time) as modified
        from {{ '`%s`.`%s`' | format(projects.database, projects.schema) }}.INFORMATION_SCHEMA.PARTITIONS
        where table_name = '{{ projects.identifier }}'
    {%- endset -%}
    {%- set found = run_query(partitions).rows -%}
    {%- set until = (found | map(attribute='modified') | map('int') | max | string) if found | length else none -%}
    {%- if since is none -%}
        {{ return({'days': none, 'until': until}) }}
    {%- endif -%}
    {%- for row in found if row.modified is none or row.modified | int > since | int -%}
        {%- if row.partition_id == '__NULL__' -%}
            {%- do days.append('null') -%}
        {%- elif modules.re.fullmatch('[0-9]{8}([0-9]{2})?', row.partition_id or '') -%}
            {%- do days.append(row.partition_id[:4] ~ '-' ~ row.partition_id[4:6] ~ '-' ~ row.partition_id[6:8]) -%}
        {%- else -%}
            {#- rows that are in no partition yet may be of any day -#}
            {{ return({'days': none, 'until': until}) }}
        {%- endif -%}
    {%- endfor -%}
    {%- set differing -%}
        with compared as (
            select
                source.id is not null as in_source,
                source.created_on as source_time,
                target.id is not null as in_target,
                target.created_on as target_time
            from ({{ query }}) as source
            full outer join {{ this }} as target on source.id = target.id
            where
                source.id is null
                or target.id is null
                {%- for column in columns %}
                or source.{{ column }} is distinct from target.{{ column }}
                {%- endfor %}
        )

        select coalesce(cast(date(source_time) as string), 'null') as day from compared where in_source
        union distinct
        select coalesce(cast(date(target_time) as string), 'null') as day from compared where in_target
        limit 1000
    {%- endset -%}
    {%- for row in run_query(differing).rows -%}{%- do days.append(row.day) -%}{%- endfor -%}
    {%- set days = days | unique | sort -%}
    {#- a long list of days is no gain over the table, and a query's text has a limit -#}
    {{ return({'days': days if days | length <= 200 else none, 'until': until}) }}
{% endmacro %}

{% macro on_days(column, days) -%}
    {#- Literals, since BigQuery leaves out partitions only for constants. -#}
    {%- for day in days -%}
        {{ ' or ' if not loop.first }}
        {%- if day == 'null' -%}
            {{ column }} is null
        {%- else -%}
            {{ column }} between timestamp '{{ day }} 00:00:00+00' and timestamp '{{ day }} 23:59:59.999999+00'
        {%- endif -%}
    {%- else -%}
        false
    {%- endfor -%}
{%- endmacro %}

{% macro merge_plan() %}
    {%- set line = modules.re.search('^\\s*-- merge: (.*)$', model.get('compiled_code') or '', modules.re.MULTILINE) -%}
    {{ return(fromjson(line.group(1)) if line else none) }}
{% endmacro %}

{% macro bigquery__get_merge_sql(target, source, unique_key, dest_columns, incremental_predicates=none) -%}
    {#- dbt's merge updates and inserts; rows that are no longer in the query (a project that is gone, or whose tag was
        added or taken back) would stay. In the same statement, so that no reader sees a half-done table. -#}
    {%- set days = merge_plan().days -%}
    {%- set predicates = [] if days is none else [on_days('DBT_INTERNAL_DEST.created_on', days)] -%}
    {{ default__get_merge_sql(target, source, unique_key, dest_columns, predicates) }}
    when not matched by source {%- for predicate in predicates %} and ({{ predicate }}){% endfor %}
        then delete
{%- endmacro %}

{% macro keep_watermark() %}
    {#- After the merge, so a build that fails before it only has more to do; a whole build drops the label. -#}
    {%- set plan = merge_plan() if execute and target.type == 'bigquery' else none -%}
    {%- if plan and plan.until -%}
        {%- set labels = dict(adapter.get_bq_table(this).labels or {}, merged_until=plan.until) -%}
        alter table {{ this }} set options (
            labels = [{% for name, value in labels.items() %}('{{ name }}', '{{ value }}'){{ ', ' if not loop.last }}{% endfor %}]
        )
    {%- endif -%}
{% endmacro %}
