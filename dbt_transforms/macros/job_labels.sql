{% macro job_labels(node) %}
    {#- Gives the labels of a BigQuery job as JSON, which the query comment turns into labels: those of the Dagster run,
        from the environment since a variable that changes makes dbt parse anew, and the asset that the node is of. -#}
    {%- if target.type == 'bigquery' -%}
        {%- set labels = fromjson(env_var('MLOPS_JOB_LABELS', '{}')) -%}
        {%- set asset = node.name if node and node.resource_type == 'model' -%}
        {%- if node and node.resource_type == 'test' -%}
            {#- its model, as dagster-dbt finds it -#}
            {%- set asset = node.config.meta.get('dagster', {}).get('ref', {}).get('name') or (node.attached_node or '').split('.')[-1] -%}
        {%- endif -%}
        {%- if asset -%}{%- do labels.update(asset_key=asset) -%}{%- endif -%}
        {{ tojson(labels) }}
    {%- endif -%}
{% endmacro %}
